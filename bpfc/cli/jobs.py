"""The pieces of work that a table lacks. One that a kill cut short goes on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bpfc.cli import evaluate, transfer
from bpfc.cli.speed import Estimate
from bpfc.files import read_jsonl
from bpfc.ledger import ROWS
from bpfc.report.budgets import BUDGETS
from bpfc.report.shelf import Shelf
from bpfc.report.task import Task
from bpfc.training.health import TrainingError
from bpfc.training.recipe import Recipe
from bpfc.training.run import Run
from bpfc.training.start import train

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
        epochs: how many are done, as a kill left them.
        judged: how many of the images are attacked, likewise.
    """

    folder: Path
    recipe: Recipe
    reused: Path | None
    attacks: str
    images: int
    bare: Path | None = None
    epochs: int = 0
    judged: int = 0

    @property
    def told(self) -> str:
        epochs = _left(self.recipe.epochs, self.epochs)
        begin = f"reuse    {self.reused}" if self.reused else f"train    {self.folder.name}, {epochs} epochs"
        if not self.reused and self.bare:
            begin += f" ({self.bare} has no weights)"
        attacked = f"; attack {_left(self.images, self.judged)} images with {self.attacks}"
        return begin + (attacked if self.attacks else "")

    def seconds(self, estimate: Estimate) -> float:
        """How long it takes here, about."""
        left = self.images - self.judged
        attacked = estimate.evaluation(self.recipe, self.attacks, left) if self.attacks else 0
        return attacked + (0 if self.reused else estimate.training(self.recipe, self.epochs))

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
            out = _evaluation(self.folder, self.attacks, self.images)
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
    folder = out / f"{_name(task, 'table3', seed)}-{_first(task.counted)}"
    yield BlackBox(folder, tuple(targets), tuple(made_on), next(iter(targets.values())), task.counted)


def _training(task: Task, on: Shelf, folder: Path, recipe: Recipe, attacks: str) -> Job:
    there = on.of(recipe)  # those with weights first
    first = there[0].run.folder if there else None
    kept = first is not None and there[0].has_weights
    run, rows = Run(folder), _evaluation(folder, attacks, task.counted) / ROWS
    return Job(
        folder,
        recipe,
        first if kept else None,
        attacks,
        task.counted,
        bare=None if kept else first,
        epochs=len(run.log) if run.has_states else 0,
        judged=len(read_jsonl(rows)),
    )


def _evaluation(folder: Path, attacks: str, images: int) -> Path:
    return folder / f"evaluation-{attacks.replace(',', '+')}-{_first(images)}"


def _name(task: Task, what: str, seed: int) -> str:
    """Of a folder. The budget stands in it, so that a longer one does not meet a shorter one's run."""
    budget = next(name for name, budget in BUDGETS.items() if budget == task.budget)
    return f"{task.data}-{what}-{budget}-seed{seed}"


def _left(count: int, done: int) -> str:
    return f"the last {count - done:,} of {count:,}" if done else f"{count:,}"


def _first(images: int) -> str:
    """Ends the name of an evaluation's folder: in one of more images than these, they could not be evaluated."""
    return f"first-{images}"
