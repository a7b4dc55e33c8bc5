"""How far a training is: a bar where somebody watches, and a line an epoch for terminals and log files alike."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bpfc.training.overfitting import warning

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@contextmanager
def bar(fabric: "Fabric", total: int, done: int) -> Iterator[Callable[[], None]]:
    """A bar over the whole run with the time left, where somebody watches; yields the function that advances it."""
    columns = (TextColumn("training"), BarColumn(), TextColumn("step {task.completed}/{task.total}"))
    watched = fabric.is_global_zero and sys.stdout.isatty()
    with Progress(*columns, TimeRemainingColumn(), transient=True, disable=not watched) as progress:
        task = progress.add_task("training", total=total, completed=done)
        yield lambda: progress.advance(task)


def report(log: list[dict[str, Any]], epochs: int, collapsed: str | None) -> None:
    """A line an epoch, for terminals and log files alike."""
    row = log[-1]
    seconds = sum(row["train_seconds"] + row["validation_seconds"] for row in log[-5:]) / len(log[-5:])
    left = timedelta(seconds=round(seconds * (epochs - len(log))))
    names = ("loss", "cross_entropy", "regulariser", "lr", "weight", "share", "strength", "eps", "images_per_second")
    shares = "train {train_accuracy:.1%} validation {validation_accuracy:.1%} I-FGSM {validation_ifgsm_accuracy:.1%}"
    parts = " ".join(f"{name} {row[name]:.4g}" for name in names if name in row)
    print(f"epoch {len(log)}/{epochs}: {parts} {shares.format(**row)}; {left} left", flush=True)
    if (told := warning(log)) and not (log[:-1] and warning(log[:-1])):
        print(f"warning: {told}", flush=True)
    if collapsed and len(log) == epochs:
        print(f"warning: {collapsed}", flush=True)
