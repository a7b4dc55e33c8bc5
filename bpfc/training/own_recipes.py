"""Recipes beyond the paper: classifiers that never see an adversarial example, each with and without a tone curve."""

from dataclasses import replace
from typing import Any, Literal, NamedTuple

from bpfc.methods import BPFC, BPFCIBP, IBP, AnyMethod, BoxConsistency, Margin, Normal
from bpfc.methods.classes import standing
from bpfc.options import Arithmetic
from bpfc.training.recipe import Recipe
from bpfc.training.settings import Schedule

BLOCKS = (1, 2, 4, 7, 14)
"""Sides of noise blocks: divisors of 28."""

MARGIN: dict[str, Any] = {"weight_schedule": Schedule(shape="ramp", milestones=(0.0, 0.2))}
"""What the margin penalty asks of any recipe: ρ grows, for at first the gradient that it weighs says little."""
BOUNDS: dict[str, Any] = {
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "averaging": 0.999,
    "weight_schedule": Schedule(shape="ramp", milestones=(0.05, 0.5)),
}
"""What interval bounds ask of any recipe: ε and κ grow, for at first bounds are so wide that constant logits win."""


class Best(NamedTuple):
    """A recipe that is called best of its data set.

    Attributes:
        changes: where it departs from DATA-ibp-curve.
        expected: accuracy in % of all test images, clean, under attack and certified, as it was judged with seed 0.
        attacked: by which suite.
        precision: what it was trained in.
    """

    changes: dict[str, Any]
    expected: tuple[float, float, float]
    attacked: Literal["standard", "fast"]
    precision: Arithmetic


ATTACKED = {"standard": "AutoAttack", "fast": "the suite fast"}
"""As the text of a recipe calls a suite."""

BEST: dict[str, Best] = {
    "fashion-mnist": Best({"epochs": 20}, (85.6, 77.4, 76.3), "standard", "bf16"),
    "mnist": Best(
        {"network": "m-lenet-batchnorm@0.4-0.6", "epochs": 12, "method": IBP(eps=0.3, weight=0.3)},
        (98.4, 93.0, 91.2),
        "fast",
        "bf16",
    ),
}
"""By data set: nothing is called best that was not trained and attacked (tests/test_results.py)."""


def own_recipes(*bases: Recipe) -> dict[str, tuple[str, Recipe]]:
    """Name to (what it is, class and cost; recipe), for grey data sets: from their normal training by the paper."""
    found = {}
    for base in bases:
        rows = _rows(base)
        if best := BEST.get(base.data):
            clean, stands, certified = best.expected
            rows["best"] = (
                f"Our best, as it was judged: interval bounds behind a tone curve. {clean} clean, "
                f"{stands} under {ATTACKED[best.attacked]}, {certified} certified, of all test images, trained "
                f"with --precision {best.precision}",
                replace(rows["ibp-curve"][1], **best.changes),
            )
        for name, (text, recipe) in rows.items():
            number, cost = standing(recipe.method)
            found[f"{base.data}-{name}"] = (f"{text}. Class {number}, cost {cost}", recipe)
    return found


def _rows(base: Recipe) -> dict[str, tuple[str, Recipe]]:
    eps, k, weight = base.eps, *((7, 10.0) if base.eps == 0.3 else (6, 25.0))
    # On digits in the middle, for few pixels lie within ε of it. On clothes from ε on, so that black is out of reach;
    # for bounds up to 0.6: what is lighter becomes white, and an interval above it a point.
    curve, narrow = ("@0.4-0.6", "@0.4-0.6") if base.eps == 0.3 else ("@0.1-0.9", "@0.1-0.6")
    plain = replace(
        base, lr=0.03, lr_schedule=Schedule(shape="one-cycle"), clip_norm=1.0, select="last", weights="bfloat16"
    )
    growing = replace(plain, **MARGIN)
    bounded = replace(plain, network="m-lenet-sparse", batch_size=32, **BOUNDS)
    settings: dict[str, tuple[str, Recipe, AnyMethod]] = {
        "normal-fast": ("Normal training, one-cycle", plain, Normal()),
        "bpfc-fast": ("BPFC, one-cycle", plain, BPFC(k=k, weight=weight)),
        "bpfc-blocks": ("BPFC with block noise", plain, BPFC(k=k, weight=weight, blocks=BLOCKS)),
        "box": ("Consistency with random images of the ball", plain, BoxConsistency(eps=eps, blocks=BLOCKS)),
        "margin": ("BPFC with the margin penalty at x", growing, Margin(eps=eps, k=k, blocks=BLOCKS)),
        "margin-coarse": (
            "BPFC with the margin penalty at q(x)",
            growing,
            Margin(eps=eps, k=k, at="coarse", blocks=BLOCKS),
        ),
        "ibp": ("Interval bounds", bounded, IBP(eps=eps)),
        "bpfc-ibp": ("BPFC with interval bounds", bounded, BPFCIBP(eps=eps, k=k, weight=1.0, blocks=BLOCKS)),
    }
    rows = {}
    for name, (text, recipe, method) in settings.items():
        recipe = replace(recipe, method=method)
        rows[name] = (text, recipe)
        network = recipe.network + (narrow if recipe.network.endswith("sparse") else curve)
        rows[f"{name}-curve"] = (f"{text}, behind a tone curve", replace(recipe, network=network))
    return rows
