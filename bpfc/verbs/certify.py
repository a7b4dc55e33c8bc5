"""`bpfc certify`: options → one call → the table."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from bpfc.certification import between, certified_radii, certified_shares, certify, join, parse_methods
from bpfc.files import make_writable_folder, read_jsonl, write_json, write_jsonl
from bpfc.machine import pick_device
from bpfc.provenance import provenance
from bpfc.recipes import Number
from bpfc.subject import Subject, from_run, handed_in


@dataclass(frozen=True)
class Certify:
    """Prove of as many test images as can be that no perturbation within ε changes the prediction."""

    run: tyro.conf.Positional[Path | None] = None
    """Folder that bpfc train wrote; or hand in a model with --model and --data."""
    eps: Number | None = None
    """ε: radius in ℓ∞, in units of [0, 1], such as 8/255; the recipe's unless given."""
    methods: str = "interval,crown-ibp"
    """Comma-separated, the cheapest first; each works on what those before it left open."""
    curve: bool = False
    """Find for each image the largest ε that is certified, too: a dozen times the work."""
    model: str | None = None
    """package.module:function, without arguments, that makes the model; importing it runs its code."""
    weights: Path | None = None
    """The model's weights: safetensors, or a state dict that torch saved."""
    data: str | None = None
    """Images for the model: a data set's name, a folder of pictures by class, or an .npz file."""
    mean: tuple[float, ...] | None = None
    """Of each channel, if the model expects normalised images; images and ε stay in [0, 1]."""
    std: tuple[float, ...] | None = None
    """Likewise."""
    limit: int | None = None
    """Certify the first N test images only."""
    batch_size: int = 256
    """Images at a time; fewer are taken where the memory asks for it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    data_dir: Path | None = None
    """Where the data files are; else BPFC_DATA, the user's cache, Debian's package, the network."""
    evaluation: Path | None = None
    """Folder of an evaluation of the same model, images and ε, to set the attacks beside the proofs."""
    out: Path | None = None
    """Folder for certificates.jsonl and summary.json; RUN/certification unless given."""


CURVE = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""ε of the curve."""


def main(options: Certify) -> None:
    """The verb: certify and print the table."""
    print_table(run(options), Console())


def run(options: Certify) -> dict[str, Any]:
    """Certifies by the options; gives back the summary, which also stands in summary.json.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
        ContradictionError: the evaluation has broken what is certified.
    """
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"limit={options.limit!r}: must be 1 or more")
    parse_methods(options.methods)
    out = options.out or (options.run / "certification" if options.run else None)
    if out is None:
        raise ValueError("--out: name a folder for the certificates of the model that you hand in")
    subject = _subject(options)
    eps = subject.eps if options.eps is None else options.eps
    if eps is None:
        raise ValueError("--eps: say the radius, in units of [0, 1], such as 8/255")
    attacked = None if options.evaluation is None else _attacked(options.evaluation, subject, eps)
    make_writable_folder(out)
    device = pick_device(options.device)
    model, images, labels = subject.to(device, options.limit)
    found = certify(model, images, labels, eps=eps, methods=options.methods, batch_size=options.batch_size)
    summary = {"data": subject.data, "weights_sha256": subject.weights_sha256, "model": options.model} | found.summary
    if attacked is not None:
        summary["between"] = between(join([row for row in attacked if row["index"] < len(images)], found.rows))
    if options.curve:
        radii = certified_radii(model, images, labels, methods=options.methods)
        summary["curve"] = {"eps": list(CURVE), "certified": certified_shares(radii, CURVE)}
        summary["radius"] = {"median": float(radii.median()), "largest": float(radii.max())}
    summary["provenance"] = provenance(device)
    write_jsonl(out / "certificates.jsonl", [dict(row) for row in found.rows])
    write_json(out / "summary.json", summary)
    return summary


def _attacked(folder: Path, subject: Subject, eps: float) -> list[dict[str, Any]]:
    """The rows of an evaluation, if it is one of the same model, images and threat."""
    header = folder / "evaluation.json"
    if not header.exists():
        raise ValueError(f"--evaluation {folder}: holds no evaluation (there is no {header.name})")
    settings = json.loads(header.read_text())
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
    return read_jsonl(folder / "ledger.jsonl")


def _subject(options: Certify) -> Subject:
    if options.run is not None:
        for name in ("weights", "data", "mean", "std"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name}: is for a model that you hand in; a run has its own")
        return from_run(options.run, options.data_dir, options.model)
    if options.model is None or options.data is None:
        raise ValueError("name the folder of a run, or hand in a model with --model and --data")
    return handed_in(options.model, options.weights, options.data, options.data_dir, options.mean, options.std)


def print_table(summary: dict[str, Any], console: Console) -> None:
    """The summary as a table in the terminal, in %."""
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
