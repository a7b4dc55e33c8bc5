"""What a training step of each method costs here, beside the passes that it makes: `bpfc reproduce cost`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bpfc.cli.speed import Speed
from bpfc.machine import pick_device, resolve
from bpfc.methods.classes import standing
from bpfc.report.captions import captioned
from bpfc.report.experiments import EXPERIMENTS
from bpfc.report.figures import METHODS, PRECISIONS
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES

if TYPE_CHECKING:
    from rich.console import Console

    from bpfc.cli.jobs import DeviceName

BUDGET = 20.0
"""Seconds for the steps of a data set; each is timed once at least."""


def print_costs(
    data: Sequence[str], methods: Sequence[str], device: "DeviceName", markdown: bool, console: "Console"
) -> None:
    """A table for each data set, after the names of all are known to be right.

    Raises:
        ValueError: there is no recipe for a data set and a method.
    """
    asked = dict.fromkeys(("normal", *(methods or EXPERIMENTS["table2"].methods)))
    every = {name: {method: _recipe(name, method) for method in asked} for name in data or ("fashion-mnist",)}
    place = pick_device(device)
    for name, recipes in every.items():
        speed = Speed(place, resolve("auto", place))
        seconds = speed.steps(list(recipes.values()), BUDGET)
        rows = []
        for (method, recipe), each in zip(recipes.items(), seconds, strict=True):
            passes, normally = standing(recipe.method).cost, each / seconds[0]
            rows.append([METHODS.get(method, method), f"{passes}", f"{1000 * each:.1f}", f"{normally:.2f}"])
        normal = recipes["normal"]
        told = (
            f"{name}, batch {normal.batch_size}, {normal.network}, in {PRECISIONS[speed.precision]} on {place.type}. "
            "The paper says that BPFC is faster than RSS-AT and PGD-AT, without a figure."
        )
        if busy := speed.told():
            told += f"{busy} The milliseconds are as of it alone, and rough; time them again at rest."
        _print(["", "passes", "milliseconds a step", "normal training is 1"], rows, told, markdown, console)


def _recipe(data: str, method: str) -> Recipe:
    if f"{data}-{method}" not in RECIPES:
        raise ValueError(f"{data}-{method}: no such recipe; bpfc recipes lists them")
    return RECIPES[f"{data}-{method}"][1]


def _print(header: list[str], rows: list[list[str]], told: str, markdown: bool, console: "Console") -> None:
    from bpfc.cli.narrow import narrow

    if markdown:
        print(captioned(header, rows, told), end="\n\n")
    else:
        console.print(narrow("What a training step costs", header, rows, console.width))
        console.print(told, highlight=False)
