"""`bpfc certify`: options → one call → the table."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpfc.cli.subjects import SubjectOptions
from bpfc.options import BatchSize, Device, Number, read_words

if TYPE_CHECKING:
    from rich.console import Console

    from bpfc.evaluation.subject import Subject


@dataclass(frozen=True)
class Certify(SubjectOptions):
    """Prove of as many test images as can be that no perturbation within ε changes the prediction."""

    eps: Number | None = None
    """ε: radius in ℓ∞, in units of [0, 1], such as 8/255; the recipe's unless given."""
    methods: str = "interval,crown-ibp"
    """Comma-separated, the cheapest first; each works on what those before it left open."""
    curve: bool = False
    """Find for each image the largest ε that is certified, too: a dozen times the work."""
    limit: int | None = None
    """Certify the first N test images only."""
    batch_size: BatchSize = 256
    device: Device = "auto"
    evaluation: Path | None = None
    """Folder of an evaluation of the same model, images and ε, to set the attacks beside the proofs."""
    out: Path | None = None
    """Folder for certificates.jsonl and summary.json; RUN/certification unless given."""


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
    from bpfc.attacks.base import check_count
    from bpfc.certification import between, certified_radii, certified_shares, join, parse_methods
    from bpfc.certification.recorded import record
    from bpfc.files import make_writable_folder, write_json
    from bpfc.machine import pick_device
    from bpfc.provenance import provenance
    from bpfc.training.run import CERTIFICATION

    check_count(limit=options.limit, batch_size=options.batch_size)
    parse_methods(options.methods)
    out = options.folder(options.out, CERTIFICATION)
    subject = options.subject()
    eps = subject.eps if options.eps is None else options.eps
    if eps is None:
        raise ValueError("--eps: say the radius, in units of [0, 1], such as 8/255")
    attacked = None if options.evaluation is None else _attacked(options.evaluation, subject, eps, options.limit)
    make_writable_folder(out)
    device = pick_device(options.device)
    subject = subject.on(device, options.limit)
    model, images = subject.model, subject.images
    found = record(
        model, images, subject.header(), out, eps=eps, methods=options.methods, batch_size=options.batch_size
    )
    if found is None:
        return {}
    summary = {"data": subject.data, "weights_sha256": subject.weights_sha256, "model": subject.factory} | found.summary
    if attacked is not None:
        summary["between"] = between(join([row for row in attacked if row["index"] < len(images)], found.rows))
    if options.curve:
        radii = certified_radii(model, images.pixels, images.labels, methods=options.methods)
        summary["curve"] = {"eps": list(CURVE), "certified": certified_shares(radii, CURVE)}
        summary["radius"] = {"median": float(radii.median()), "largest": float(radii.max())}
    summary["provenance"] = provenance(device)
    write_json(out / "summary.json", summary)
    return summary


def _attacked(folder: Path, subject: "Subject", eps: float, limit: int | None) -> list[dict[str, Any]]:
    """The rows of an evaluation, if it is one of the same model, images and threat, and has all that are certified."""
    from bpfc.files import read_json
    from bpfc.ledger import read_rows

    header = folder / "evaluation.json"
    if not header.exists():
        raise ValueError(f"--evaluation {folder}: holds no evaluation (there is no {header.name})")
    settings = read_json(header)
    asked = {
        "weights_sha256": subject.weights_sha256,
        "data": subject.data,
        "data_sha256": subject.data_sha256,
        "norm": "linf",
        "eps": eps,
    }
    other = [name for name, mine in asked.items() if settings.get(name) != mine]
    if other:
        told = "; ".join(f"{name} was {settings.get(name)!r}, is {asked[name]!r}" for name in other)
        raise ValueError(f"--evaluation {folder}: is of something else ({told})")
    attacks = settings.get("plan")
    if not isinstance(attacks, list):
        raise ValueError(f"{header}: names no attacks; put it back, or name another --evaluation")
    labels = subject.images.labels.tolist()
    rows = {row["index"]: row for row in read_rows(folder / "ledger.jsonl", labels, attacks)}
    lacking = [index for index in range(min(limit or len(labels), len(labels))) if index not in rows]
    if lacking:
        raise ValueError(
            f"--evaluation {folder}: lacks {len(lacking)} images, the first of them {lacking[0]}; let it come "
            "to its end, or certify with the --limit that it has"
        )
    return [dict(rows[index]) for index in sorted(rows)]


def print_table(summary: dict[str, Any], console: "Console") -> None:
    """The summary as a table in the terminal, in %."""
    from rich.table import Table

    table = Table(title=f"{summary['data']}, {summary['images']} images, ℓ∞ ε {summary['eps']:.4g}")
    table.add_column("proven by")
    table.add_column("certified", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, share in {"clean": summary["clean"], **summary["methods"], "all": summary["certified"]}.items():
        low, high = share["interval_95"]
        label = "nothing: clean accuracy" if name == "clean" else name
        table.add_row(label, f"{share['accuracy']:.1%}", f"{low:.1%} … {high:.1%}", end_section=name == "clean")
    console.print(table)
    if "between" in summary:
        sides = summary["between"]
        told = (
            f"The robust accuracy lies between {sides['certified']:.1%} (certified) and {sides['not_broken']:.1%} (not"
        )
        console.print(f"{told} broken); {sides['open']:.1%} are open.")
    if "curve" in summary:
        for eps, share in zip(summary["curve"]["eps"], summary["curve"]["certified"], strict=True):
            console.print(f"ε {eps:g}: {share:.1%} certified")
        radius = summary["radius"]
        console.print(f"Certified radius: median {radius['median']:.3g}, largest {radius['largest']:.3g}.")
