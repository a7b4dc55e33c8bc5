"""Verb `evaluate`: checkpoint + attacks -> ledger and summary."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from bpfc.attacks import Norm, ball
from bpfc.evaluation import attack_block, blocks, check_handed_in, without_radius
from bpfc.files import make_writable_folder, replace_file, write_json
from bpfc.ledger import Ledger, Row, summarise, write_csv
from bpfc.machine import Precision, pick_device, resolve
from bpfc.plan import SHOWN, SUITES, Setting, cascades, parse
from bpfc.provenance import provenance
from bpfc.subject import Subject, from_run, handed_in
from bpfc.training.recipe import Number
from bpfc.wrappers import EOT


@dataclass(frozen=True)
class Evaluate:
    """Attack a network, one ledger row per test image, and print its robust accuracy."""

    run: tyro.conf.Positional[Path | None] = None
    """Folder that bpfc train wrote; or hand in a model with --model and --data."""
    attacks: Annotated[
        str, tyro.conf.arg(help=f"Comma-separated: one of the suites {', '.join(SUITES)}; or any of {SHOWN}.")
    ] = "fgsm,ifgsm-40,pgd-100"
    eps: Number | None = None
    """ε: radius in units of [0, 1], such as 8/255; the recipe's unless given."""
    norm: Norm = "linf"
    """In which ε is meant."""
    step: Number | None = None
    """Step of PGD, in units of [0, 1]; the recipe's, else ε/4, unless given."""
    k: int | None = None
    """Bit planes that the network was trained to do without, for the attacker who knows; the recipe's unless given."""
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
    eot: int = 0
    """For a model with randomness in it: attack and judge the mean of that many answers."""
    limit: int | None = None
    """Evaluate the first N test images only. An evaluation of fewer goes on to N in the same folder."""
    seed: int = 0
    """Of the random starts."""
    cascade: bool = False
    """Run each attack only on what those before it left: the same worst case sooner, other figures cumulative."""
    batch_size: int = 256
    """Images at a time; bounds the memory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Arithmetic of the attacks' gradients; verdicts are in float32 always."""
    data_dir: Path | None = None
    """Where the data files are; else BPFC_DATA, the user's cache, Debian's package, the network."""
    out: Path | None = None
    """Folder for ledger.jsonl and summary.json; RUN/evaluation unless given. A killed evaluation resumes there."""
    csv: bool = False
    """Write ledger.csv too."""
    save_images: bool = False
    """Save each image that breaks the network as OUT/adversarial/INDEX.npy, float32 (C, H, W)."""


def main(options: Evaluate) -> None:
    """The verb: evaluate and print the table."""
    print_table(run(options), Console())


def run(options: Evaluate) -> dict[str, Any]:
    """Evaluates by the options; gives back the summary, which also stands in summary.json.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
    """
    for name in ("limit", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}={value!r}: must be 1 or more")
    out = options.out
    if out is None:
        if options.run is None:
            raise ValueError("--out: name a folder for the ledger of the model that you hand in")
        out = options.run / "evaluation"
    device = pick_device(options.device)
    precision = resolve(options.precision, device, out / "evaluation.json")
    subject = _subject(options)
    eps = subject.eps if options.eps is None else options.eps
    if eps is None:
        raise ValueError("--eps: say the radius, in units of [0, 1], such as 8/255")
    step = options.step
    if step is None:
        step = subject.step if subject.step is not None and options.norm == "linf" else eps / 4
    inside = ball(options.norm, eps)
    k = subject.k if options.k is None else options.k
    planned = parse(options.attacks, Setting(inside, step, k, subject.ifgsm_steps))
    cascade = options.cascade or cascades(options.attacks)
    make_writable_folder(out)
    model, images, labels = subject.to(device, options.limit)
    if options.eot:
        model = EOT(model, options.eot).eval()
    check_handed_in(model, images, labels)
    settings = {
        "weights_sha256": subject.weights_sha256,
        "model": options.model,
        "data": subject.data,
        "data_sha256": subject.data_sha256,
        "images": len(images),
        "attacks": [item.name for item in planned],
        "norm": options.norm,
        "eps": eps,
        "step": step,
        "k": k,
        "eot": options.eot,
        "seed": options.seed,
        "cascade": cascade,
        "precision": precision,
    }
    ledger = Ledger(out, settings)
    started, before = time.perf_counter(), len(ledger.rows)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, transient=True, disable=not Console().is_terminal) as progress,
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        task = progress.add_task("clean", total=len(images) * len(planned), completed=before * len(planned))
        for indices in blocks(before, len(images), options.batch_size):
            block = indices.to(device)
            rows = attack_block(
                model,
                images[block],
                labels[block],
                indices.tolist(),
                planned,
                inside,
                seed=options.seed,
                precision=precision,
                batch_size=options.batch_size,
                cascade=cascade,
                passed=lambda item: progress.update(task, advance=len(block), description=item.name),  # noqa: B023
                adversary=_saver(out / "adversarial") if options.save_images else lambda *_: None,
            )
            ledger.append(rows, {str(warning.message) for warning in warned})
            robust = sum(row["broken_by"] is None for row in ledger.rows) / len(ledger.rows)
            an_image = (time.perf_counter() - started) / (len(ledger.rows) - before)
            left = timedelta(seconds=round(an_image * (len(images) - len(ledger.rows))))
            told = f"{len(ledger.rows)}/{len(images)} images, robust so far {robust:.1%}; {left} left"
            progress.console.print(told, style="dim")
    names = [item.name for item in planned]
    summary = settings | summarise(ledger.rows, names, without_radius(planned))
    summary["attack_settings"] = {item.name: repr(item.attack) for item in planned}
    summary["warnings"] = ledger.warnings + _beyond_gradients(ledger.rows)
    summary["seconds"] = round(time.perf_counter() - started, 1)
    summary["images_resumed"] = before
    summary["provenance"] = provenance(device)
    write_json(out / "summary.json", summary)
    if options.csv:
        write_csv(out / "ledger.csv", ledger.rows, names)
    return summary


def _beyond_gradients(rows: list[Row]) -> list[str]:
    """AutoAttack's own flag: Square alone breaks more than 0.2 points (Croce and Hein 2020)."""

    def alone(row: Row) -> bool:
        others = [entry["broken"] for name, entry in row["attacks"].items() if name != "aa-square"]
        return row["broken_by"] == "aa-square" and bool(others) and not any(others)

    share = sum(map(alone, rows)) / len(rows)
    told = f"Square broke {share:.1%} that the other attacks left: gradients may be masked"
    return [told] if share > 0.002 else []


def _subject(options: Evaluate) -> Subject:
    if options.run is not None:
        for name in ("weights", "data", "mean", "std"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name}: is for a model that you hand in; a run has its own")
        return from_run(options.run, options.data_dir, options.model)
    if options.model is None or options.data is None:
        raise ValueError("name the folder of a run, or hand in a model with --model and --data")
    return handed_in(options.model, options.weights, options.data, options.data_dir, options.mean, options.std)


def _saver(folder: Path) -> Callable[[int, Tensor], None]:
    folder.mkdir(exist_ok=True)

    def save(index: int, image: Tensor) -> None:
        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, image.cpu().numpy())

        replace_file(folder / f"{index:06d}.npy", write)

    return save


def print_table(summary: dict[str, Any], console: Console) -> None:
    """The summary as a table in the terminal, in %."""
    norm = {"linf": "ℓ∞", "l2": "ℓ2"}[summary["norm"]]
    table = Table(title=f"{summary['data']}, {summary['images']} images, {norm} ε {summary['eps']:.4g}")
    table.add_column("attack")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    shares = {"clean": summary["clean"], **summary["attacks"], "worst case": summary["worst_case"]}
    for name, share in shares.items():
        low, high = share["interval_95"]
        table.add_row(name, f"{share['accuracy']:.1%}", f"{low:.1%} … {high:.1%}", end_section=name == "clean")
    console.print(table)
    for name, share in summary["attacks"].items():
        if share.get("attacked"):  # in a cascade nothing may have been left for it
            norm = "l2" if "median_l2" in share else "linf"
            told = f"median {norm} distance {share[f'median_{norm}']}, mean of those found {share[f'mean_{norm}']}"
            console.print(f"{name}: found an image for {share['success']:.1%} of {share['attacked']}; {told}")
    for warning in summary["warnings"]:
        console.print(f"warning: {warning}", style="yellow", highlight=False)
