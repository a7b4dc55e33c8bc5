"""An evaluation in a folder: rows as they are made, warnings, and the summary. A killed one goes on where it was."""

import json
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from bpfc.evaluation.caveats import caveats
from bpfc.evaluation.checks import check, check_gradient
from bpfc.evaluation.engine import cut, each_block, run_block
from bpfc.evaluation.plan import Plan
from bpfc.evaluation.subject import Subject
from bpfc.files import make_writable_folder, owned, write_file, write_json
from bpfc.ledger import Ledger, Row, summarise
from bpfc.provenance import provenance
from bpfc.team import Team, team

SHARDS = "shards"
"""The folder of the ledger's shards, one of each process, while several are at work."""


def record(
    subject: Subject, plan: Plan, out: Path, *, save_images: bool = False, crew: Team | None = None
) -> tuple[list[Row], dict[str, Any]]:
    """Runs the plan on the subject, from what the folder holds on; gives back rows and summary.

    Under torchrun the processes share out the blocks of images. Each writes the rows of its blocks into a shard of the
    ledger, OUT/shards/RANK; when all are done the first merges them into the rows, byte by byte, that one process would
    write. Shards that a kill left are merged at the next start, be it of one process or of many.

    Args:
        subject: on the device where it is to be attacked.
        plan: what to run.
        out: folder for evaluation.json, ledger.jsonl and summary.json; made if need be.
        save_images: save each image that breaks the network as OUT/adversarial/INDEX.npy, float32 (C, H, W).
        crew: the processes; torchrun's unless given.

    Returns:
        In any process but the first, no rows and an empty summary.

    Raises:
        ValueError: no figure of the subject could be trusted, the folder holds another evaluation, or another process
            was given something else to evaluate.
        OSError: the folder cannot be written to, or another process is at work there.
    """
    make_writable_folder(out)
    crew = crew or team()
    check(subject.model, subject.images)
    if plan.by_gradients:
        check_gradient(subject.model, subject.images)
    settings, labels = plan.header() | subject.header(), subject.images.labels.tolist()
    if not crew.first:
        _same(crew, settings)
        missing, standing = crew.told("missing")
        _attack(subject, plan, _shard(out, crew, settings, labels), missing, standing, crew, _saver(out, save_images))
        crew.wait("attacked")
        return [], {}
    with owned(out):
        _same(crew, settings)
        ledger = Ledger(out, settings, labels, plan.names)
        ledger.absorb(sorted((out / SHARDS).glob("*")))
        if save_images:
            _check_saved(out / "adversarial", ledger.rows)
        started, before = time.perf_counter(), len(ledger.rows)
        standing = sum(row["broken_by"] is None for row in ledger.rows)
        missing, _ = crew.told("missing", [ledger.missing, standing])
        mine = ledger if crew.size == 1 else _shard(out, crew, settings, labels)
        _attack(subject, plan, mine, missing, standing, crew, _saver(out, save_images))
        crew.wait("attacked")
        ledger.absorb(sorted((out / SHARDS).glob("*")))
        rows = ledger.rows
        summary = settings | summarise(rows, plan.names, plan.minimum_norm)
        summary["warnings"] = ledger.warnings + caveats(rows)
        summary["seconds"] = round(time.perf_counter() - started, 1)
        summary["images_resumed"] = before
        summary["provenance"] = provenance(subject.images.labels.device)
        write_json(out / "summary.json", summary)
    return rows, summary


def started_in(out: Path) -> Path:
    """The file that tells with which settings an evaluation in the folder began."""
    return out / "evaluation.json"


def _same(crew: Team, settings: dict[str, Any]) -> None:
    """Raises ValueError in a process that would evaluate something else than the first."""
    first, mine = crew.told("settings", settings), json.loads(json.dumps(settings))
    if other := [name for name in mine if first.get(name) != mine[name]]:
        told = "; ".join(f"{name} is {mine[name]!r}, there {first.get(name)!r}" for name in other)
        raise ValueError(f"process {crew.rank} would evaluate something else than the first ({told}); make them alike")


def _shard(out: Path, crew: Team, settings: dict[str, Any], labels: list[int]) -> Ledger:
    folder = out / SHARDS / f"{crew.rank:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    return Ledger(folder, settings, labels, settings["plan"])


def _attack(
    subject: Subject,
    plan: Plan,
    ledger: Ledger,
    missing: list[int],
    standing: int,
    crew: Team,
    adversary: Callable[[int, Tensor], None],
) -> None:
    """Runs the plan on the images that are missing, as far as they fall to this process, and tells how far all are."""
    total, attacks = len(subject.images), len(plan.attacks)
    before = total - len(missing)
    started, parts = time.perf_counter(), cut(missing, plan.batch_size)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, transient=True, disable=not (crew.first and Console().is_terminal)) as progress,
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        task = progress.add_task("clean", total=total * attacks, completed=before * attacks)
        mine = (parts[number] for number in crew.handed_out("blocks", len(parts)))
        for block in each_block(subject.images, mine, channels_last=subject.channels_last):
            rows = run_block(
                subject.model,
                block,
                plan,
                passed=lambda item: progress.update(task, advance=len(block.indices), description=item.name),  # noqa: B023
                adversary=adversary,
            )
            ledger.append(rows, {str(warning.message) for warning in warned})
            robust = standing + crew.add("standing", sum(row["broken_by"] is None for row in rows))
            done = before + crew.add("done", len(rows))
            if not crew.first:
                continue
            left = timedelta(seconds=round((time.perf_counter() - started) / (done - before) * (total - done)))
            told = f"{done}/{total} images, robust so far {robust / done:.1%}; {left} left"
            progress.console.print(told, style="dim")


def _check_saved(folder: Path, rows: list[Row]) -> None:
    """Raises ValueError if rows were made without the images that are to be saved now."""
    broken = [row["index"] for row in rows if row["broken_by"] not in (None, "clean")]
    if lacking := [index for index in broken if not _image_file(folder, index).exists()]:
        raise ValueError(
            f"--save-images: {len(lacking)} images were broken by an evaluation that saved none "
            f"({_image_file(folder, lacking[0])} is missing); choose another --out"
        )


def _image_file(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.npy"


def _saver(out: Path, wanted: bool) -> Callable[[int, Tensor], None]:
    if not wanted:
        return lambda *_: None
    folder = out / "adversarial"
    folder.mkdir(exist_ok=True)

    def save(index: int, image: Tensor) -> None:
        content = BytesIO()  # into a file itself, numpy cuts it short in silence where the disk is full
        np.save(content, image.cpu().numpy())
        write_file(_image_file(folder, index), content.getvalue())

    return save
