"""Verb `recipes`: the trainings by name, or the settings of one."""

import re
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import tyro

from bpfc.options import read_words

if TYPE_CHECKING:
    from bpfc.training.recipe import Recipe


@dataclass(frozen=True)
class Recipes:
    """List the recipes with figures, class and cost, or one recipe's settings."""

    recipe: tyro.conf.Positional[str | None] = None
    """A recipe's name: print the command with all its settings."""


def parse(arguments: list[str]) -> Recipes:
    return read_words(Recipes, "bpfc recipes", arguments)


def main(options: Recipes) -> None:
    """The verb: print the table."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from bpfc.data import DATA_SETS
    from bpfc.methods.classes import standing
    from bpfc.training.recipes import PAPER, RECIPES

    console = Console()
    if options.recipe is not None:
        text, recipe = named(options.recipe)
        console.print(text, highlight=False)
        print(" \\\n    ".join([f"bpfc train {options.recipe}", *words(recipe)]))
        return
    console.print("Train with: bpfc train DATA-METHOD. In the cells the paper's accuracy in %, clean/PGD-1000.")
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)  # fits a terminal of 80 columns
    table.add_column("METHOD", no_wrap=True)
    table.add_column("class", justify="right")
    table.add_column("cost", justify="right")
    for data in DATA_SETS:
        table.add_column(data, justify="right")
    classes = {
        name.removeprefix(f"{recipe.data}-"): standing(recipe.method).number for name, (_, recipe) in RECIPES.items()
    }
    curved, short = [], []
    for method, number in classes.items():
        if method.endswith("-curve"):
            curved.append(method.removesuffix("-curve"))
            continue
        if f"cifar-10-{method}" in RECIPES and method.endswith("-fast"):
            short.append(method.removesuffix("-fast"))
            if f"mnist-{method}" not in RECIPES:
                continue
        cells = []
        for data in DATA_SETS:
            row = PAPER.get(data, {}).get(method)
            there = f"{data}-{method}" in RECIPES
            cells.append(f"{row[0]}/{row[1]}" if there and row else "✓" if there else "")
        table.add_row(method, f"{number}", "/".join(costs(method)), *cells)
    console.print(table)
    console.print(
        "class: what training does with the gradient by the image, from 0, nothing, to 5, adversarial images "
        "(docs/methods.md). cost: forwards and backwards an image, normal training is 1; on grey sets/on CIFAR-10 "
        "where these differ. ✓: a recipe without a row in the paper."
    )
    console.print(f"On the grey sets also as METHOD-curve, behind a tone curve: {', '.join(curved)}.")
    console.print(f"On CIFAR-10 also as METHOD-fast, in 15 epochs: {', '.join(short)}.")


def costs(method: str) -> list[str]:
    """What a step of the method costs, by data set where that differs, from the recipes' own words."""
    from bpfc.data import DATA_SETS
    from bpfc.training.recipes import RECIPES

    texts = [RECIPES[name][0] for data in DATA_SETS if (name := f"{data}-{method}") in RECIPES]
    found = [re.search(r"[Cc]ost ([\d.]+\d|\d)", text) for text in texts]
    return list(dict.fromkeys(match[1] for match in found if match))


def named(name: str) -> "tuple[str, Recipe]":
    """What a recipe is, and the recipe.

    Raises:
        ValueError: there is none of that name.
    """
    from bpfc.methods import METHODS
    from bpfc.training.recipes import RECIPES

    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=1)
        meant = f"; did you mean {near[0]}" if near else ""
        raise ValueError(
            f"no recipe {name!r}{meant}; bpfc recipes lists them, and with --data PATH the methods are "
            f"{', '.join(METHODS)}"
        )
    return RECIPES[name]


def words(recipe: "Recipe") -> list[str]:
    """The settings of a recipe as options of bpfc train."""
    found = []
    for name, value in asdict(recipe).items():
        for key, part in value.items() if isinstance(value, dict) else [("", value)]:
            path = [*filter(None, (name, key))]
            if isinstance(part, bool):  # --method.no-noise
                path[-1] = path[-1] if part else f"no_{path[-1]}"
                values = []
            else:
                values = list(map(str, part)) if isinstance(part, tuple | list) else [str(part)]
            found.append(" ".join([f"--{'.'.join(path).replace('_', '-')}", *values]))
    return found
