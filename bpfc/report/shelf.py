"""What stands in folders of runs: finished trainings, their evaluations, and which of the figures are as planned."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bpfc.errors import UserError
from bpfc.evaluation import Context, ThreatModel, parse
from bpfc.evaluation.recorded import started_in
from bpfc.files import SUMMARY, read_json
from bpfc.training.recipe import RENAMED, Recipe
from bpfc.training.run import Run, runs_in

NEAR = 1e-9
"""How far numbers may be apart that people wrote as 8/255 or as its digits."""


@dataclass(frozen=True)
class Known:
    """A finished training that is there.

    Attributes:
        run: its folder.
        recipe: the effective one.
        summaries: of its evaluations.
    """

    run: Run
    recipe: Recipe
    summaries: list[dict[str, Any]] = field(repr=False)

    @property
    def has_weights(self) -> bool:
        return self.run.weights.is_file()

    def has(self, weights_sha256: str | None) -> bool:
        """Whether these are its weights, as far as its own are there to tell."""
        return not self.has_weights or weights_sha256 == self._digest

    @cached_property
    def _digest(self) -> str:
        """Of the weights, which are read once, however many figures are asked for."""
        return self.run.digest


@dataclass(frozen=True)
class Shelf:
    """What stands in some folders of runs: finished trainings, and black-box evaluations."""

    runs: list[Known]
    transfers: list[tuple[Path, dict[str, Any]]] = field(repr=False)

    def of(self, recipe: Recipe) -> list[Known]:
        """The trainings by a recipe, those with weights first.

        The arithmetic may be another, and the number of validation images by which the epoch was chosen: both hang on
        the machine's speed, and stand below the table.
        """
        found = [
            known
            for known in self.runs
            if replace(known.recipe, validation_attacked=recipe.validation_attacked) == recipe
        ]
        return sorted(found, key=lambda known: not known.has_weights)


def shelf(folders: Sequence[Path]) -> Shelf:
    """Everything that can be reused in the folders, each of which holds runs. A folder that is not there holds none."""
    runs, transfers = [], []
    for folder in folders:
        for run in runs_in(folder):
            try:
                recipe = run.recipe()
            except UserError:
                continue  # of a network or a method that this version does not know: no row of the paper
            if len(run.log) == recipe.epochs:
                runs.append(Known(run, recipe, _summaries(run)))
        for path in sorted(folder.glob(f"*/{SUMMARY}")):
            content = read_json(path)
            if {"targets", "sources_sha256"} <= content.keys():
                transfers.append((path.parent, content))
    return Shelf(runs, transfers)


def fits(summary: dict[str, Any], recipe: Recipe) -> bool:
    """Whether it is of the recipe's data, within its ℓ∞ ball, and of the network's own answers, not of their mean.

    What an earlier version did not write is taken to be so.
    """
    near = math.isclose(summary.get("eps", 0), recipe.eps, rel_tol=0, abs_tol=NEAR)
    right = summary.get("data", recipe.data) == recipe.data and summary.get("norm", "linf") == "linf"
    return near and right and not summary.get("eot")


def planned(summary: dict[str, Any], attack: str, recipe: Recipe) -> bool:
    """Whether its attack of that name is the one that `bpfc evaluate` gives the recipe's run; likewise.

    A name such as pgd-20 leaves ε and the length of a step open, and both decide what it breaks.
    """
    told = summary.get("attack_settings", {}).get(attack)
    if told is None:
        return True
    # Of how many channels the images are decides suites alone.
    context = Context(ThreatModel("linf", recipe.eps), channels=1, step_size=recipe.step_size)
    kind, due = _settings(repr(parse(attack, context).attacks[0].attack))
    other, found = _settings(told)
    return other == kind and all(name in due and _alike(value, due[name]) for name, value in found.items())


def target_of(folder: Path, content: dict[str, Any], known: Known) -> dict[str, Any] | None:
    """What a black-box evaluation in a folder says of a training beside it; None if it says nothing of its weights."""
    name, header = known.run.name, started_in(folder / known.run.name)
    if name not in content["targets"] or folder.parent != known.run.folder.parent or not fits(content, known.recipe):
        return None
    if header.exists() and not known.has(read_json(header).get("weights_sha256")):
        return None
    target: dict[str, Any] = content["targets"][name]
    return target


def _settings(shown: str) -> tuple[str, dict[str, str]]:
    """The kind of an attack and its settings, as text, by the names that they have now."""
    found = re.findall(r"(\w+)=([^,()]+)", shown)
    return shown.partition("(")[0], {RENAMED.get(name, name): value for name, value in found}


def _alike(told: str, due: str) -> bool:
    try:
        return math.isclose(float(told), float(due), rel_tol=0, abs_tol=NEAR)
    except ValueError:
        return told == due


def _summaries(run: Run) -> list[dict[str, Any]]:
    """The evaluations of the run's weights; where these are not kept, of the weights that all its evaluations name.

    Raises:
        ValueError: the weights are not there, and its evaluations are of several.
    """
    every = run.evaluations()
    if run.weights.is_file():
        return [each for each in every if each.get("weights_sha256") == run.digest]
    if len(named := {each.get("weights_sha256") for each in every}) > 1:
        raise ValueError(
            f"{run.folder}: its evaluations are of {len(named)} networks (weights_sha256 in their summaries), and its "
            "weights are not there to tell which is its own; remove the evaluations of the others"
        )
    return every
