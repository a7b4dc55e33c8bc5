"""Verb `evaluate`: checkpoint + attacks -> ledger and summary."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bpfc.checkpoint import MODEL, load_model, load_recipe
from bpfc.data import load, to_float
from bpfc.evaluation import attack_block, check_handed_in
from bpfc.files import make_writable_folder, write_json
from bpfc.ledger import Ledger, summarise
from bpfc.machine import Precision, pick_device, resolve
from bpfc.plan import FORMS, parse
from bpfc.provenance import provenance
from bpfc.recipes import Number


@dataclass(frozen=True)
class Evaluate:
    """Attack the network of a run, one ledger row per test image, and print its robust accuracy."""

    run: tyro.conf.Positional[Path]
    """Folder that bpfc train wrote."""
    attacks: Annotated[str, tyro.conf.arg(help=f"Comma-separated: {FORMS}.")] = "fgsm,ifgsm-40,pgd-100"
    eps: Number | None = None
    """ε: ℓ∞ radius in units of [0, 1], such as 8/255; the recipe's unless given."""
    step: Number | None = None
    """Step of PGD, likewise."""
    limit: int | None = None
    """Evaluate the first N test images only."""
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


def main(options: Evaluate) -> None:
    """The verb: evaluate and print the table."""
    print_table(run(options), Console())


def run(options: Evaluate) -> dict[str, Any]:
    """Evaluates by the options; gives back the summary, which also stands in summary.json.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
    """
    recipe = load_recipe(options.run)
    eps = recipe.eps if options.eps is None else options.eps
    step = recipe.attack_step if options.step is None else options.step
    planned = parse(options.attacks, eps=eps, step=step)
    for name in ("limit", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}={value!r}: must be 1 or more")
    device = pick_device(options.device)
    precision = resolve(options.precision, device)
    out = options.out or options.run / "evaluation"
    make_writable_folder(out)
    data = load(recipe.data, options.data_dir)
    model = load_model(options.run, data).to(device)
    test = data.test[: options.limit].to(device)
    check_handed_in(model, to_float(test.pixels[:256]), test.labels[:256])
    settings = {
        "weights_sha256": hashlib.sha256((options.run / MODEL).read_bytes()).hexdigest(),
        "data": recipe.data,
        "images": len(test),
        "attacks": [item.name for item in planned],
        "eps": eps,
        "step": step,
        "seed": options.seed,
        "cascade": options.cascade,
        "precision": precision,
    }
    ledger = Ledger(out, settings)
    started, before = time.perf_counter(), len(ledger.rows)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not Console().is_terminal) as progress:
        task = progress.add_task("clean", total=len(test) * len(planned), completed=before * len(planned))
        for indices in torch.arange(before, len(test)).split(options.batch_size):
            block = test[indices.to(device)]
            images = to_float(block.pixels).contiguous(memory_format=torch.channels_last)
            rows = attack_block(
                model,
                images,
                block.labels,
                indices.tolist(),
                planned,
                seed=options.seed,
                precision=precision,
                cascade=options.cascade,
                passed=lambda item: progress.update(task, advance=len(block), description=item.name),  # noqa: B023
            )
            ledger.append(rows)
            robust = sum(row["broken_by"] is None for row in ledger.rows) / len(ledger.rows)
            progress.console.print(f"{len(ledger.rows)}/{len(test)} images, robust so far {robust:.1%}", style="dim")
    summary = settings | summarise(ledger.rows, [item.name for item in planned])
    summary["attack_settings"] = {item.name: repr(item.attack) for item in planned}
    summary["seconds"] = round(time.perf_counter() - started, 1)
    summary["images_resumed"] = before
    summary["provenance"] = provenance(device)
    write_json(out / "summary.json", summary)
    return summary


def print_table(summary: dict[str, Any], console: Console) -> None:
    """The summary as a table in the terminal, in %."""
    table = Table(title=f"{summary['data']}, {summary['images']} images, ε {summary['eps']:.4g}")
    table.add_column("attack")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    shares = {"clean": summary["clean"], **summary["attacks"], "worst case": summary["worst_case"]}
    for name, share in shares.items():
        low, high = share["interval_95"]
        table.add_row(name, f"{share['accuracy']:.1%}", f"{low:.1%} … {high:.1%}", end_section=name == "clean")
    console.print(table)
