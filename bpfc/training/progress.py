"""How far a training is: a bar where somebody watches, and a line an epoch for terminals and log files alike."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bpfc.training.overfitting import warning
from bpfc.training.recipe import Recipe

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


def report(log: Sequence[Mapping[str, Any]], recipe: Recipe, size: int, collapsed: str | None) -> None:
    """A line an epoch; `size` is the height and width of the data's images."""
    row, epochs = log[-1], recipe.epochs
    left = timedelta(seconds=round(_seconds_left(log, [recipe.side_at(epoch, size) for epoch in range(epochs)])))
    names = ("loss", "cross_entropy", "regulariser", "lr", "weight", "share", "strength", "eps", "images_per_second")
    shares = "train {train_accuracy:.1%} validation {validation_accuracy:.1%} I-FGSM {validation_ifgsm_accuracy:.1%}"
    parts = " ".join(f"{name} {row[name]:.4g}" for name in names if name in row)
    print(f"epoch {len(log)}/{epochs}: {parts} {shares.format(**row)}; {left} left", flush=True)
    if (told := warning(log)) and not (log[:-1] and warning(log[:-1])):
        print(f"warning: {told}", flush=True)
    if collapsed and len(log) == epochs:
        print(f"warning: {collapsed}", flush=True)


def _seconds_left(log: Sequence[Mapping[str, Any]], sides: Sequence[int]) -> float:
    """By the last five epochs: training takes time in proportion to pixels; validation sees images in full size."""
    done, last = len(log), log[-5:]
    pixels = [side**2 for side in sides]
    a_pixel = sum(row["train_seconds"] for row in last) / sum(pixels[done - len(last) : done])
    validation = sum(row["validation_seconds"] for row in last) / len(last)
    return a_pixel * sum(pixels[done:]) + validation * len(sides[done:])
