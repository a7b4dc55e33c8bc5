"""What is there, what is missing, and how long that takes here: `bpfc reproduce --dry-run`."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from bpfc.cli.jobs import BlackBox, DeviceName, Job
from bpfc.cli.speed import Estimate, Speed
from bpfc.machine import pick_device, resolve
from bpfc.report.shelf import Shelf
from bpfc.report.task import Task

if TYPE_CHECKING:
    from rich.console import Console


def print_there(tasks: Iterable[Task], on: Shelf, console: "Console") -> None:
    """The trainings that lack nothing."""
    for task in tasks:
        for seed in range(task.seeds):
            for method in task.methods:
                row = task.row(on, method, seed)
                if row.known is not None and None not in row.figures:
                    _say(console, f"there    {task.data}-{method}, seed {seed}: {row.known.run.folder}")


def print_work(jobs: Sequence[Job | BlackBox], processes: int, device: DeviceName, console: "Console") -> None:
    """The pieces of work, each with its time, by a step of its method and a pass of an attack timed now."""
    place = pick_device(device)
    speed = Speed(place, resolve("auto", place))
    estimate = Estimate(speed)
    alone = [job.seconds(estimate) for job in jobs]
    for job, seconds in zip(jobs, alone, strict=True):
        _say(console, f"{job.told}: {_shown(seconds / speed.got)}")
    # Processes share the cores, all of which the timing had, and a GPU; only several GPUs make several as fast as one.
    total = sum(alone) / max(1, min(processes, torch.cuda.device_count() if place.type == "cuda" else 1))
    told = f"{len(jobs)} pieces of work, about {_shown(total / speed.got)} here with --jobs {processes}."
    if any(isinstance(job, Job) and job.attacks for job in jobs):
        told += (
            " Attacks take at most their share of it: every image is counted to its last step. It leaves as soon as it "
            "is broken, in the first steps where the network is not robust."
        )
    if busy := speed.told():
        told += f"{busy} Alone it would take {_shown(total)} at best."
    console.print(told, highlight=False)


def _say(console: "Console", line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _shown(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))}"
