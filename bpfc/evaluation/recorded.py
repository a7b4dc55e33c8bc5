"""An evaluation in a folder: rows as they are made, warnings, and the summary. A killed one goes on where it was."""

import math
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
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn, track
from torch import Tensor

from bpfc.checks import check
from bpfc.data import parts_of, to_float
from bpfc.evaluation.caveats import caveats, left_out
from bpfc.evaluation.engine import Proof, run_blocks
from bpfc.evaluation.gradients import check_gradient
from bpfc.evaluation.plan import Plan
from bpfc.evaluation.subject import Subject
from bpfc.files import SUMMARY, make_writable_folder, owned, write_file, write_json
from bpfc.judge import first_logits
from bpfc.ledger import HEADER, Ledger, Row, summarise
from bpfc.provenance import provenance
from bpfc.resumed import FIRST
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
        save_images: save each image that breaks the network as OUT/adversarial/INDEX.npy, float32 (C, H, W). Where
            rows were made without, their images are attacked again for it.
        proven: certificates; what is certified is not attacked.
        crew: the processes; torchrun's unless given.

    Raises:
        ValueError: no figure of the subject could be trusted, the folder holds another evaluation, or images that are
            attacked again to be saved end otherwise than their rows say.
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
        header = settings | {FIRST: first_logits(subject.model, to_float(subject.images[:1].pixels))}
        shared = Shared(out, settings, lambda path: Ledger(path, header, labels, plan.names), crew)
        started, before = time.perf_counter(), len(shared.before)
        saver, proofs = _saver(out / "adversarial") if save_images else lambda *_: None, proven.proofs if proven else {}
        if save_images:
            _save_again(subject, plan, shared.before, out / "adversarial", proofs)
        _attack(subject, plan, shared, crew, saver, proofs)
        ledger = shared.finished()
        if ledger is None:
            return [], {}
        rows = ledger.rows
        summary = settings | summarise(rows, plan.names, plan.minimum_norm)
        summary["warnings"] = ledger.warnings + left_out(subject.images.skipped) + caveats(rows)
        summary["seconds"] = round(time.perf_counter() - started, 1)
        summary["images_resumed"] = before
        summary["provenance"] = provenance(subject.images.labels.device)
        write_json(out / SUMMARY, summary)
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
    started = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, transient=True, disable=not (crew.first and Console().is_terminal)) as progress,
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        task = progress.add_task("clean", total=total * attacks, completed=before * attacks)

        def passed(attack: str, count: int) -> None:
            progress.update(task, advance=count, description=attack)

        for rows in run_blocks(
            subject.model,
            subject.images,
            shared.parts(plan.batch_size),
            plan,
            channels_last=subject.channels_last,
            passed=passed,
            adversary=adversary,
            proofs=proofs,
        ):
            shared.append(rows, {str(warning.message) for warning in warned})
            done = before + crew.add("done", len(rows))
            robust = standing + crew.add("standing", sum(row["broken_by"] is None for row in rows))
            if not crew.first:
                continue
            left = timedelta(seconds=round((time.perf_counter() - started) / (done - before) * (total - done)))
            told = f"{done}/{total} images, robust so far {robust / done:.1%}; {left} left"
            progress.console.print(told, style="dim")


def _save_again(subject: Subject, plan: Plan, rows: Sequence[Row], folder: Path, proofs: Mapping[int, Proof]) -> None:
    """Attacks images again whose rows were made without saving what broke them, in the blocks of an unbroken start.

    Raises:
        ValueError: some end otherwise than their rows say. Those that do not are saved.
    """
    broken = {row["index"]: row for row in rows if row["broken_by"] not in (None, "clean")}
    lacking = {index: row for index, row in broken.items() if not _image_file(folder, index).exists()}
    known = [row["index"] for row in rows]
    parts = [part for part in parts_of(known, plan.batch_size) if lacking.keys() & part]
    save, found, other = _saver(folder), dict[int, Tensor](), list[int]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what attacks warn of, they have warned of before
        every = run_blocks(
            subject.model,
            subject.images,
            parts,
            plan,
            channels_last=subject.channels_last,
            adversary=found.__setitem__,
            proofs=proofs,
        )
        for again in track(every, "attacking again", len(parts), transient=True, disable=not Console().is_terminal):
            for row in again:
                if (index := row["index"]) in lacking and _ended_alike(row, lacking[index]):
                    save(index, found[index])
                elif index in lacking:
                    other.append(index)
            found.clear()
    if other:
        raise ValueError(
            f"--save-images: attacked again, {len(other)} images end otherwise than their rows say, as may be on "
            f"another machine or with another --batch-size; the first is {other[0]}; choose another --out"
        )


def _ended_alike(row: Row, before: Row) -> bool:
    """Whether an image was broken by the same, but for the rounding of distances."""
    name = before["broken_by"]
    if name is None or row["broken_by"] != name:
        return False
    mine, its = row["attacks"][name], before["attacks"][name]
    near = all(math.isclose(mine[norm] or 0, its[norm] or 0, rel_tol=1e-3, abs_tol=1e-6) for norm in ("linf", "l2"))
    return near and (mine["restart"], mine["step"]) == (its["restart"], its["step"])


def _image_file(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.npy"


def _saver(folder: Path) -> Callable[[int, Tensor], None]:
    folder.mkdir(exist_ok=True)

    def save(index: int, image: Tensor) -> None:
        content = BytesIO()  # into a file itself, numpy cuts it short in silence where the disk is full
        np.save(content, image.cpu().numpy())
        write_file(_image_file(folder, index), content.getvalue())

    return save
