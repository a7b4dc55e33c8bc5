"""An evaluation in a folder: rows as they are made, warnings, and the summary. A killed one goes on where it was."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from bpfc.answers import Answers
from bpfc.evaluation.caveats import caveats
from bpfc.evaluation.checks import check, check_gradient
from bpfc.evaluation.engine import Proof, each_block, run_block
from bpfc.evaluation.plan import Plan
from bpfc.evaluation.subject import Subject
from bpfc.files import make_writable_folder, owned, write_file, write_json
from bpfc.ledger import HEADER, Ledger, Row, summarise
from bpfc.provenance import provenance
from bpfc.shared import Shared
from bpfc.team import Team, team


class Proven(NamedTuple):
    """Certificates of the subject: the methods that made them, and what they prove by an image's index."""

    methods: Sequence[str]
    proofs: Mapping[int, Proof]


def record(
    subject: Subject,
    plan: Plan,
    out: Path,
    *,
    save_images: bool = False,
    proven: Proven | None = None,
    crew: Team | None = None,
) -> tuple[list[Row], dict[str, Any]]:
    """Runs the plan on the subject, from what the folder holds on; gives back rows and summary.

    Under torchrun the processes share the images out; see bpfc.shared. Any but the first gives back no rows and an
    empty summary.

    Args:
        subject: on the device where it is to be attacked.
        plan: what to run.
        out: folder for evaluation.json, ledger.jsonl and summary.json; made if need be.
        save_images: save each image that breaks the network as OUT/adversarial/INDEX.npy, float32 (C, H, W).
        proven: certificates; what is certified is not attacked.
        crew: the processes; torchrun's unless given.

    Raises:
        ValueError: no figure of the subject could be trusted, or the folder holds another evaluation.
        ContradictionError: a certified image is misclassified as it is.
        OSError: the folder cannot be written to, or another process is at work there.
    """
    make_writable_folder(out)
    crew = crew or team()
    with owned(out) if crew.first else nullcontext():
        check(subject.model, subject.images)
        if plan.by_gradients:
            check_gradient(subject.model, subject.images)
        settings = plan.header() | subject.header()
        if proven is not None:
            settings["certificates"] = list(proven.methods)
        labels = subject.images.labels.tolist()
        shared = Shared(out, settings, lambda path: Ledger(path, settings, labels, plan.names), crew)
        if save_images:
            _check_saved(out / "adversarial", shared.before)
        started, before = time.perf_counter(), len(shared.before)
        saver = _saver(out / "adversarial") if save_images else lambda *_: None
        _attack(subject, plan, shared, crew, saver, proven.proofs if proven else {})
        ledger = shared.finished()
        if ledger is None:
            return [], {}
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
    return out / HEADER


def _attack(
    subject: Subject,
    plan: Plan,
    shared: Shared[Row],
    crew: Team,
    adversary: Callable[[int, Tensor], None],
    proofs: Mapping[int, Proof],
) -> None:
    """Runs the plan on the images that fall to this process; the first tells how far all are."""
    total, attacks = len(subject.images), len(plan.attacks)
    before, standing = len(shared.before), sum(row["broken_by"] is None for row in shared.before)
    started, answers = time.perf_counter(), Answers(subject.model)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, transient=True, disable=not (crew.first and Console().is_terminal)) as progress,
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        task = progress.add_task("clean", total=total * attacks, completed=before * attacks)
        mine = shared.parts(plan.batch_size)
        for block in each_block(subject.images, mine, channels_last=subject.channels_last):
            with answers.to(block.indices):
                rows = run_block(
                    subject.model,
                    block,
                    plan,
                    passed=lambda item: progress.update(task, advance=len(block.indices), description=item.name),  # noqa: B023
                    adversary=adversary,
                    proofs=proofs,
                )
            shared.append(rows, {str(warning.message) for warning in warned})
            done = before + crew.add("done", len(rows))
            robust = standing + crew.add("standing", sum(row["broken_by"] is None for row in rows))
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


def _saver(folder: Path) -> Callable[[int, Tensor], None]:
    folder.mkdir(exist_ok=True)

    def save(index: int, image: Tensor) -> None:
        content = BytesIO()  # into a file itself, numpy cuts it short in silence where the disk is full
        np.save(content, image.cpu().numpy())
        write_file(_image_file(folder, index), content.getvalue())

    return save
