"""The pieces of work that a table lacks, and the processes that do them. A piece that a kill cut short goes on."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

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
        bare: a finished run of the same recipe whose weights are not kept, so that it is trained again.
    """

    folder: Path
    recipe: Recipe
    reused: Path | None
    attacks: str
    images: int
    bare: Path | None = None

    @property
    def told(self) -> str:
        begin = (
            f"reuse    {self.reused}" if self.reused else f"train    {self.folder.name}, {self.recipe.epochs} epochs"
        )
        if not self.reused and self.bare:
            begin += f" ({self.bare} has no weights)"
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
    return _training(task, on, out / _name(task, method, seed), task.recipe(method, seed), attacks)


def _black_box(task: Task, on: Shelf, out: Path, seed: int) -> Iterator[Job | BlackBox]:
    """The trainings of targets and sources, each once, then the one black-box evaluation."""
    targets = {out / _name(task, method, seed): task.recipe(method, seed) for method in task.methods}
    made_on = {}
    for network, recipe in task.sources(seed).items():
        same = [folder for folder, other in targets.items() if other == recipe]
        made_on[same[0] if same else out / _name(task, network, seed)] = recipe
    for folder, recipe in (targets | made_on).items():
        yield _training(task, on, folder, recipe, "")
    folder = out / _name(task, "table3", seed)
    yield BlackBox(folder, tuple(targets), tuple(made_on), next(iter(targets.values())), task.counted)


def _training(task: Task, on: Shelf, folder: Path, recipe: Recipe, attacks: str) -> Job:
    there = on.of(recipe)  # those with weights first
    first = there[0].run.folder if there else None
    kept = first is not None and there[0].has_weights
    return Job(folder, recipe, first if kept else None, attacks, task.counted, bare=None if kept else first)


def _name(task: Task, what: str, seed: int) -> str:
    """Of a folder. The budget stands in it, so that a longer one does not meet a shorter one's run."""
    budget = next(name for name, budget in BUDGETS.items() if budget == task.budget)
    return f"{task.data}-{what}-{budget}-seed{seed}"


def do(
    jobs: Sequence[Job | BlackBox], processes: int, device: DeviceName, data_dir: Path | None, console: "Console"
) -> list[str]:
    """Does the pieces of work. One that fails does not stop the others, however it does; gives back a line for each.

    With one process they are done here, one after the other. With several the trainings come first, side by side, each
    with its output in a file beside its folder, and the black-box evaluations after them.
    """
    failed: list[str] = []
    if processes == 1:
        for number, job in enumerate(jobs, start=1):
            _say(console, f"{number}/{len(jobs)} {job.told}")
            try:
                job.do(device, data_dir)
            except Exception as error:
                failed.append(_failed(job, _told(error), console))
        return failed
    first = [job for job in jobs if isinstance(job, Job)]
    for batch in (first, [job for job in jobs if not isinstance(job, Job)]):
        failed += _side_by_side(batch, processes, device, data_dir, console)
    return failed


class _Running(NamedTuple):
    """A piece of work in a process, at one of the places that there are, and where its last words are heard."""

    job: Job | BlackBox
    place: int
    work: multiprocessing.process.BaseProcess
    hears: Connection


def _side_by_side(
    jobs: Sequence[Job | BlackBox], processes: int, device: DeviceName, data_dir: Path | None, console: "Console"
) -> list[str]:
    """A process for each piece of work, so that one that is killed, as for its memory, takes no other with it."""
    spawn = multiprocessing.get_context("spawn")
    processes = min(processes, len(jobs))
    done, failed, waiting, free = 0, [], list(jobs), list(range(processes))
    running: dict[int, _Running] = {}
    try:
        while waiting or running:
            while waiting and free:
                job, place = waiting.pop(0), free.pop(0)
                hears, says = spawn.Pipe(duplex=False)
                given = (job, device, data_dir, place, processes, os.getpid(), says)
                begun = spawn.Process(target=_apart, args=given)
                begun.start()
                says.close()  # so that its end is heard here when the process is gone
                running[begun.sentinel] = _Running(job, place, begun, hears)
                _say(console, f"begun: {job.told}; its output is in {_log(job)}")
            ended = wait(list(running))
            for job, place, work, hears in [running.pop(each) for each in list(running) if each in ended]:
                work.join()
                free.append(place)
                if work.exitcode == 0:
                    done += 1
                    _say(console, f"{done}/{len(jobs)} done: {job.told}")
                else:
                    failed.append(_failed(job, _last_words(hears, work.exitcode), console))
                hears.close()
    finally:
        for each in running.values():
            each.work.terminate()
            each.work.join()
    return failed


def _apart(
    job: Job | BlackBox,
    device: DeviceName,
    data_dir: Path | None,
    place: int,
    processes: int,
    parent: int,
    says: Connection,
) -> None:
    """A piece of work in a process of its own, whose words go to a file; what went wrong is sent, as a line."""
    _settle(place, processes, parent)
    _log(job).parent.mkdir(parents=True, exist_ok=True)
    with _log(job).open("a") as file, redirect_stdout(file):
        try:
            job.do(device, data_dir)
        except Exception as error:
            traceback.print_exc(file=file)
            says.send(_told(error))
            raise SystemExit(1) from None


def _settle(place: int, processes: int, parent: int) -> None:
    """A process takes its GPU, if there are several, and its share of the cores; it ends with the one that began it."""
    import torch

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if (count := torch.cuda.device_count()) > 1:  # before anything else looks at them
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place % count]
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: a kill would else leave it at work, with the folders in its hands."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # states and ledgers are whole at any moment


def _last_words(hears: Connection, exitcode: int | None) -> str:
    """What a process said went wrong, or how it ended without a word."""
    try:
        return str(hears.recv())
    except EOFError:
        if exitcode == -signal.SIGKILL:
            return "its process was killed, as it is where memory runs out; fewer --jobs take less"
        return f"its process ended with status {exitcode}"


def _told(error: Exception) -> str:
    """In a line; of an error that nobody foresaw, its kind too."""
    foreseen = isinstance(error, UserError | ValueError | OSError)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def _log(job: Job | BlackBox) -> Path:
    return job.folder.with_suffix(".log")


def _failed(job: Job | BlackBox, told: str, console: "Console") -> str:
    line = f"{job.folder.name}: {told}"
    console.print(f"failed: {line}", style="red", highlight=False, soft_wrap=True)
    return line


def _say(console: "Console", line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
