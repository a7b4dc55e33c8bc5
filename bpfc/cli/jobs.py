"""The pieces of work that a table lacks, and the processes that do them. A piece that a kill cut short goes on."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bpfc.cli import evaluate, transfer
from bpfc.cli.speed import Estimate
from bpfc.errors import UserError
from bpfc.report.budgets import BUDGETS
from bpfc.report.reproduction import Shelf, Task
from bpfc.training.health import TrainingError
from bpfc.training.recipe import Recipe
from bpfc.training.run import Run
from bpfc.training.start import train

if TYPE_CHECKING:
    from rich.console import Console

DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Job:
    """A training with its attacks.

    Attributes:
        folder: of the run.
        recipe: of its training.
        reused: a finished run of the same recipe, with weights, which is copied in place of training.
        attacks: comma-separated; "" for none.
        images: test images to attack.
    """

    folder: Path
    recipe: Recipe
    reused: Path | None
    attacks: str
    images: int

    @property
    def told(self) -> str:
        begin = (
            f"reuse    {self.reused}" if self.reused else f"train    {self.folder.name}, {self.recipe.epochs} epochs"
        )
        return begin + (f"; attack {self.images:,} images with {self.attacks}" if self.attacks else "")

    def seconds(self, estimate: Estimate) -> float:
        """How long it takes here, about."""
        attacked = estimate.evaluation(self.recipe, self.attacks, self.images) if self.attacks else 0
        return attacked + (0 if self.reused else estimate.training(self.recipe))

    def do(self, device: DeviceName, data_dir: Path | None) -> None:
        """Trains or copies, then attacks, from what a kill left on."""
        if self.reused is None:
            try:
                train(self.recipe, self.folder, device=device, data_dir=data_dir, resume=True)
            except TrainingError as failure:
                raise TrainingError(
                    f"{failure}; given again it would come to the same, but --seeds trains with other seeds too"
                ) from failure
        elif self.reused != self.folder:
            Run(self.reused).copy(self.folder)
        if self.attacks:
            out = self.folder / f"evaluation-{self.attacks.replace(',', '+')}"
            evaluate.run(
                evaluate.Evaluate(
                    self.folder, attacks=self.attacks, limit=self.images, device=device, data_dir=data_dir, out=out
                )
            )


@dataclass(frozen=True)
class BlackBox:
    """FGSM images made on sources and judged on targets, all of them runs in one folder, after their trainings."""

    folder: Path
    targets: tuple[Path, ...]
    sources: tuple[Path, ...]
    recipe: Recipe
    images: int

    @property
    def told(self) -> str:
        return f"transfer {self.folder.name}, {len(self.targets)} targets, {self.images:,} images"

    def seconds(self, estimate: Estimate) -> float:
        return len(self.sources) * (1 + len(self.targets)) * estimate.evaluation(self.recipe, "fgsm", self.images)

    def do(self, device: DeviceName, data_dir: Path | None) -> None:
        transfer.run(
            transfer.Transfer(
                self.targets, self.sources, limit=self.images, device=device, data_dir=data_dir, out=self.folder
            )
        )


def missing(task: Task, on: Shelf, out: Path) -> list[Job | BlackBox]:
    """What a table lacks, in the order in which it can be done."""
    found: list[Job | BlackBox] = []
    for seed in range(task.seeds):
        lacking = {}
        for method in task.methods:
            row = task.row(on, method, seed)
            lacks = [column for column, figure in zip(task.columns, row.figures, strict=True) if figure is None]
            if lacks:
                attacks = dict.fromkeys(column.attacks[0] for column in lacks if column.attacks)
                attacks = attacks or dict.fromkeys(task.columns[-1].attacks[:1])
                lacking[method] = ",".join(attacks)
        if task.name == "table3":
            found += _black_box(task, on, out, seed) if lacking else ()
        else:
            found += [_job(task, on, out, method, seed, attacks) for method, attacks in lacking.items()]
    return found


def _job(task: Task, on: Shelf, out: Path, method: str, seed: int, attacks: str) -> Job:
    recipe, folder = task.recipe(method, seed), out / _name(task, method, seed)
    return Job(folder, recipe, _with_weights(on, recipe), attacks, task.counted)


def _black_box(task: Task, on: Shelf, out: Path, seed: int) -> Iterator[Job | BlackBox]:
    """The trainings of targets and sources, each once, then the one black-box evaluation."""
    targets = {out / _name(task, method, seed): task.recipe(method, seed) for method in task.methods}
    made_on = {}
    for network, recipe in task.sources(seed).items():
        same = [folder for folder, other in targets.items() if other == recipe]
        made_on[same[0] if same else out / _name(task, network, seed)] = recipe
    for folder, recipe in (targets | made_on).items():
        yield Job(folder, recipe, _with_weights(on, recipe), "", task.counted)
    folder = out / _name(task, "table3", seed)
    yield BlackBox(folder, tuple(targets), tuple(made_on), next(iter(targets.values())), task.counted)


def _with_weights(on: Shelf, recipe: Recipe) -> Path | None:
    return next((known.run.folder for known in on.of(recipe) if known.has_weights), None)


def _name(task: Task, what: str, seed: int) -> str:
    """Of a folder. The budget stands in it, so that a longer one does not meet a shorter one's run."""
    budget = next(name for name, budget in BUDGETS.items() if budget == task.budget)
    return f"{task.data}-{what}-{budget}-seed{seed}"


def do(
    jobs: Sequence[Job | BlackBox], processes: int, device: DeviceName, data_dir: Path | None, console: "Console"
) -> list[str]:
    """Does the pieces of work; one that fails does not stop the others. Gives back what went wrong, a line each.

    With one process they are done here, one after the other. With several the trainings come first, side by side, each
    with its output in a file beside its folder, and the black-box evaluations after them.
    """
    failed: list[str] = []
    if processes == 1:
        for number, job in enumerate(jobs, start=1):
            console.print(f"{number}/{len(jobs)} {job.told}", highlight=False, soft_wrap=True)
            try:
                job.do(device, data_dir)
            except (UserError, ValueError, OSError) as error:
                failed.append(_told(job, error, console))
        return failed
    first = [job for job in jobs if isinstance(job, Job)]
    for batch in (first, [job for job in jobs if not isinstance(job, Job)]):
        failed += _side_by_side(batch, processes, device, data_dir, console)
    return failed


def _side_by_side(
    jobs: Sequence[Job | BlackBox], processes: int, device: DeviceName, data_dir: Path | None, console: "Console"
) -> list[str]:
    failed: list[str] = []
    if not jobs:
        return failed
    processes = min(processes, len(jobs))  # the pool starts all at once, and each loads torch
    spawn = multiprocessing.get_context("spawn")
    taken = spawn.Value("i", 0)
    with ProcessPoolExecutor(processes, spawn, _settle, (taken, processes, os.getpid())) as pool:
        futures = {pool.submit(_logged, job, device, data_dir): job for job in jobs}
        for number, future in enumerate(as_completed(futures), start=1):
            job, error = futures[future], future.exception()
            if error is None:
                console.print(f"{number}/{len(jobs)} done: {job.told}", highlight=False, soft_wrap=True)
            elif isinstance(error, (UserError, ValueError, OSError)):
                failed.append(_told(job, error, console))
            else:
                raise error
    return failed


def _settle(taken: "multiprocessing.sharedctypes.Synchronized[int]", processes: int, parent: int) -> None:
    """A process takes its GPU, if there are several, and its share of the cores; it ends with the one that began it."""
    import torch

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with taken.get_lock():
        place = taken.value
        taken.value += 1
    if (count := torch.cuda.device_count()) > 1:  # before anything else looks at them
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place % count]
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: a kill would else leave it at work, with the folders in its hands."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # states and ledgers are whole at any moment


def _logged(job: Job | BlackBox, device: DeviceName, data_dir: Path | None) -> None:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with job.folder.with_suffix(".log").open("a") as file, redirect_stdout(file):
        job.do(device, data_dir)


def _told(job: Job | BlackBox, error: Exception, console: "Console") -> str:
    told = f"{job.folder.name}: {error}"
    console.print(f"failed: {told}", style="red", highlight=False)
    return told
