"""A table of the paper for one data set, as far as it is done: which runs are there, and what they say."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from bpfc.report.budgets import Budget, ExperimentName
from bpfc.report.experiments import EXPERIMENTS, IMAGES, Column, columns, source_trained_by, sources, trained_by
from bpfc.report.shelf import Known, Shelf, fits, planned, target_of
from bpfc.training.recipe import Recipe


class Figure(NamedTuple):
    """An accuracy as a share of test images; `last`: of PGD's last iterate alone, where otherwise any counts."""

    share: float
    images: int
    last: bool = False


class Row(NamedTuple):
    """A method with one seed.

    Attributes:
        recipe: of its training.
        known: the training, if it is there.
        figures: by column; None where not run.
    """

    recipe: Recipe
    known: Known | None
    figures: list[Figure | None]


@dataclass(frozen=True)
class Task:
    """A table for one data set, as far as it is done."""

    name: ExperimentName
    data: str
    budget: Budget
    images: int | None
    seeds: int
    methods: tuple[str, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return columns(self.name, self.data, self.budget)

    @property
    def counted(self) -> int:
        """How many test images a figure counts, but for those of runs whose weights are not kept."""
        whole = IMAGES[self.data][1]
        return self.images or min(self.budget.images or whole, EXPERIMENTS[self.name].images or whole, whole)

    def recipe(self, method: str, seed: int) -> Recipe:
        return trained_by(self.data, method, seed, self.budget)

    def sources(self, seed: int) -> dict[str, Recipe]:
        """The networks that black-box images are made on, by name; none but in Table 3."""
        if self.name != "table3":
            return {}
        return {name: source_trained_by(self.data, name, seed, self.budget) for name in sources(self.data)}

    def row(self, on: Shelf, method: str, seed: int) -> Row:
        """What is known of a method with a seed: of the training there that knows most."""
        recipe = self.recipe(method, seed)
        rows = [
            Row(recipe, known, [self._figure(on, known, seed, each) for each in self.columns])
            for known in on.of(recipe)
        ]
        nothing = Row(recipe, None, [None] * len(self.columns))
        return max(rows, key=lambda row: sum(figure is not None for figure in row.figures), default=nothing)

    def _figure(self, on: Shelf, known: Known, seed: int, column: Column) -> Figure | None:
        """Of the table's number of images; a run without weights can't be attacked again: of the most that it has."""
        if column.source is not None:
            return self._black_box(on, known, seed, column.source)
        every = [_figure_in(summary, column, known.recipe) for summary in known.summaries]
        found = [figure for figure in every if figure is not None]
        exact = next((figure for figure in found if figure.images == self.counted), None)
        if exact is None and not column.attacks:
            exact = self._black_box(on, known, seed, None)
        if exact is not None or known.has_weights:
            return exact
        return max(found, key=lambda figure: figure.images, default=None)

    def _black_box(self, on: Shelf, known: Known, seed: int, source: str | None) -> Figure | None:
        """Accuracy under FGSM images of a source; without one the clean accuracy, as the same evaluation has it."""
        made = on.of(self.sources(seed)[source]) if source is not None else []
        for folder, content in on.transfers:
            target = target_of(folder, content, known)
            if target is None or target["images"] != self.counted:
                continue
            if source is None:
                return Figure(target["clean"]["accuracy"], self.counted)
            for other in made if planned(content, "fgsm", known.recipe) else ():
                name = other.run.name
                share = target["attacks"].get(f"fgsm@{name}")
                beside = other.run.folder.parent == folder.parent
                if share is not None and beside and other.has(content["sources_sha256"].get(name)):
                    return Figure(share["accuracy"], self.counted)
        return None


def _figure_in(summary: dict[str, Any], column: Column, recipe: Recipe) -> Figure | None:
    """What an evaluation says for a column; None if nothing."""
    if not fits(summary, recipe):
        return None
    if not column.attacks:
        return Figure(summary["clean"]["accuracy"], summary["images"])
    for name in column.attacks if not summary.get("cascade") else ():
        if name in summary["attacks"] and planned(summary, name, recipe):
            return Figure(summary["attacks"][name]["accuracy"], summary["images"], name.endswith("-last"))
    return None
