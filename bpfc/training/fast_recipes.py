"""The paper's Table 1 in 15 epochs: its rows on CIFAR-10 by a schedule that a CPU can go through."""

from collections.abc import Mapping
from dataclasses import replace

from bpfc.methods.classes import standing
from bpfc.training.recipe import Recipe
from bpfc.training.settings import Schedule


def fast_recipes(rows: Mapping[str, tuple[str, Recipe]]) -> dict[str, tuple[str, Recipe]]:
    """Name to (what it is, recipe) of each row's short training; from method to those of the paper's schedule.

    One cycle of the learning rate in place of its three drops; λ grows by the same share each step where the paper's
    has three jumps, and by as much in all; the first 40 % on images of 24x24; flips alternate (Jordan 2024);
    gradients clipped, weights averaged. Nothing chooses the epoch: it is the last.
    """
    return {
        f"{recipe.data}-{method}-fast": (f"{text}. In 15 epochs. Class {standing(recipe.method)[0]}.", _fast(recipe))
        for method, (text, recipe) in rows.items()
    }


def _fast(recipe: Recipe) -> Recipe:
    jumps = recipe.weight_schedule
    growth = replace(jumps, shape="growth", milestones=(), factor=jumps.factor ** len(jumps.milestones))
    return replace(
        recipe,
        epochs=15,
        lr_schedule=Schedule(shape="one-cycle"),
        weight_schedule=growth if jumps.milestones else jumps,
        clip_norm=1.0,
        averaging=0.99,
        flips="alternating",
        shrunk=0.4,
        select="last",
        validation_attacked=200,
        weights="bfloat16",
    )
