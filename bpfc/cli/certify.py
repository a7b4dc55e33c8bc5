"""`bpfc certify`: options → one call → the table."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpfc.cli.subjects import SubjectOptions
from bpfc.options import BatchSize, Device, read_words

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Certify(SubjectOptions):
    """Prove of test images that no perturbation within ε changes the prediction."""

    eps: float | None = None
    """ε: radius in ℓ∞, in units of [0, 1], such as 8/255; the recipe's unless given."""
    methods: str = "interval,crown-ibp"
    """Comma-separated, the cheapest first; each works on what those before it left open."""
    curve: bool = False
    """Find for each image the largest ε that is certified, too: a dozen times the work."""
    limit: int | None = None
    """Certify the first N test images only. A certification of fewer goes on to N in the same folder."""
    batch_size: BatchSize = 256
    device: Device = "auto"
    evaluation: Path | None = None
    """Folder of an evaluation of the same model, images and ε, to set the attacks beside the proofs."""
    out: Path | None = None
    """Folder for certificates.jsonl and summary.json; RUN/certification unless given. A killed one goes on there."""


CURVE = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""ε of the curve."""


def parse(arguments: list[str]) -> Certify:
    return read_words(Certify, "bpfc certify", arguments)


def main(options: Certify) -> None:
    """The verb: certify and print the table."""
    from rich.console import Console

    summary = run(options)
    if summary:  # of several processes the first tells
        print_table(summary, Console())


def run(options: Certify) -> dict[str, Any]:
    """Certifies by the options; gives back the summary, which also stands in summary.json.

    Under torchrun the processes share the images out, and the first alone gives back a summary that is not empty.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
        ContradictionError: the evaluation has broken what is certified.
    """
    import torch

    from bpfc.attacks.base import check_count
    from bpfc.certification import certified_shares, join, parse_methods, record
    from bpfc.cli.beside import attacked
    from bpfc.files import SUMMARY, make_writable_folder, owned, write_json
    from bpfc.ledger import between
    from bpfc.machine import pick_device
    from bpfc.provenance import provenance
    from bpfc.team import team
    from bpfc.training.run import CERTIFICATION

    check_count(limit=options.limit, batch_size=options.batch_size)
    certifiers = parse_methods(options.methods)
    out = options.folder(options.out, CERTIFICATION)
    eps = options.radius(options.eps)
    subject = options.subject()
    beaten = None if options.evaluation is None else attacked(options.evaluation, subject, eps, options.limit)
    device = pick_device(options.device)
    subject = subject.on(device, options.limit)
    make_writable_folder(out)
    crew = team()
    with owned(out) if crew.first else nullcontext():
        found = record(
            subject.model,
            subject.images,
            out,
            subject.header(),
            eps=eps,
            certifiers=certifiers,
            radii=options.curve,
            batch_size=options.batch_size,
            crew=crew,
        )
        if found is None:
            return {}
        header = subject.header()
        told = {name: header[name] for name in ("data", "data_sha256", "weights_sha256", "model")}
        summary = told | found.summary
        if beaten is not None:
            some = [row for row in beaten if row["index"] < len(subject.images)]
            summary["between"] = between(join(some, found.rows))
        if options.curve:
            radii = torch.tensor([row["radius"] for row in found.rows], dtype=torch.float64)
            summary["curve"] = {"eps": list(CURVE), "certified": certified_shares(radii, CURVE)}
            summary["radius"] = {"median": float(radii.median()), "largest": float(radii.max())}
        summary["provenance"] = provenance(device)
        write_json(out / SUMMARY, summary)
    return summary


def print_table(summary: dict[str, Any], console: "Console") -> None:
    """The summary as a table in the terminal, in %."""
    from rich.markup import escape
    from rich.table import Table

    from bpfc.cli.evaluate import told_between

    table = Table(title=f"{escape(summary['data'])}, {summary['images']} images, ℓ∞ ε {summary['eps']:.4g}")
    table.add_column("proven by")
    table.add_column("certified", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, share in {"clean": summary["clean"], **summary["methods"], "all": summary["certified"]}.items():
        low, high = share["interval_95"]
        label = "nothing: clean accuracy" if name == "clean" else name
        table.add_row(label, f"{share['accuracy']:.1%}", f"{low:.1%} … {high:.1%}", end_section=name == "clean")
    console.print(table)
    if "between" in summary:
        console.print(told_between(summary["between"]))
    if "curve" in summary:
        for eps, share in zip(summary["curve"]["eps"], summary["curve"]["certified"], strict=True):
            console.print(f"ε {eps:g}: {share:.1%} certified")
        radius = summary["radius"]
        console.print(f"Certified radius: median {radius['median']:.3g}, largest {radius['largest']:.3g}.")
