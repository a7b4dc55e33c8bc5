"""The demo's two trainings: the paper's ε, k and λ for MNIST, in a quarter of M-LeNet's width.

A one-cycle learning rate and small batches are fast; they need the gradient clipped, or rounding decides whether a
training ends well (benchmarks/stability.py).
"""

from dataclasses import replace

from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.settings import Schedule


def _faster(recipe: Recipe, epochs: int) -> Recipe:
    return replace(
        recipe,
        network="m-lenet-quarter",
        epochs=epochs,
        batch_size=32,
        lr=0.06,
        lr_schedule=Schedule(shape="one-cycle"),
        clip_norm=1.0,
        validation_attacked=50,
        ifgsm_steps=5,
        select="last",
    )


DEMO_RECIPES: dict[str, Recipe] = {
    "normal": _faster(RECIPES["mnist-5k-normal"][1], epochs=4),
    "bpfc": _faster(RECIPES["mnist-5k-bpfc"][1], epochs=12),
}
"""By the name of the run's folder in the demo's."""
