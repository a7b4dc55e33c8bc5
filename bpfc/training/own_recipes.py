"""Recipes beyond the paper: classifiers that never see an adversarial example, each with and without a tone curve."""

from dataclasses import replace

from bpfc.methods import BPFC, BPFCIBP, IBP, AnyMethod, BoxConsistency, Margin, Normal
from bpfc.methods.classes import standing
from bpfc.training.recipe import Recipe, Schedule

BLOCKS = (1, 2, 4, 7, 14)
"""Sides of noise blocks: divisors of 28."""


def own_recipes(*bases: Recipe) -> dict[str, tuple[str, Recipe]]:
    """Name to (what it is, class and cost; recipe), for grey data sets: from their normal training by the paper."""
    found = {}
    for base in bases:
        rows = _rows(base)
        for name, (text, recipe) in rows.items():
            found[f"{base.data}-{name}"] = (f"{text}. {_told(recipe)}", recipe)
        best = "ibp-curve" if base.eps == 0.3 else "margin-curve"
        text, recipe = rows[best]
        found[f"{base.data}-best"] = (f"Our best, the same as {base.data}-{best}: {text}. {_told(recipe)}", recipe)
    return found


def _rows(base: Recipe) -> dict[str, tuple[str, Recipe]]:
    eps, k = base.eps, 7 if base.eps == 0.3 else 6
    # As far as black and, where ε leaves room between, white are out of the attacker's reach.
    curve = "@0.3-0.7" if base.eps == 0.3 else "@0.1-0.9"
    fast = replace(base, lr=0.03, lr_schedule=Schedule(shape="one-cycle"))
    growing = Schedule(shape="ramp", milestones=(0.0, 0.2))
    bounded = Schedule(shape="ramp", milestones=(0.05, 0.5))
    methods: dict[str, tuple[str, AnyMethod]] = {
        "normal": ("Normal training", Normal()),
        "bpfc": ("BPFC", BPFC(k=k, weight=10.0 if eps == 0.3 else 25.0)),
        "bpfc-blocks": ("BPFC with block noise", BPFC(k=k, weight=10.0 if eps == 0.3 else 25.0, blocks=BLOCKS)),
        "box": ("Consistency with random images of the ball", BoxConsistency(eps=eps, weight=10.0, blocks=BLOCKS)),
        "margin": ("BPFC with the margin penalty at x", Margin(eps=eps, k=k, weight=10.0, blocks=BLOCKS)),
        "margin-coarse": (
            "BPFC with the margin penalty at q(x)",
            Margin(eps=eps, k=k, weight=10.0, at="coarse", blocks=BLOCKS),
        ),
        "ibp": ("Interval bounds", IBP(eps=eps, weight=0.8)),
        "bpfc-ibp": ("BPFC with interval bounds", BPFCIBP(eps=eps, k=k, weight=1.0, share=0.8, blocks=BLOCKS)),
    }
    rows = {}
    for name, (text, method) in methods.items():
        bounds = isinstance(method, IBP | BPFCIBP)
        network = "m-lenet-sparse" if bounds else base.network
        schedule = bounded if bounds else growing if isinstance(method, Margin) else base.weight_schedule
        # Before ε has grown all bounds look good: only what is trained at the full radius may be selected.
        recipe = replace(
            fast, method=method, network=network, weight_schedule=schedule, select_from=0.5 if bounds else 0.4
        )
        if name not in ("normal", "bpfc"):  # those two stand among the paper's
            rows[name] = (text, recipe)
        rows[f"{name}-curve"] = (f"{text}, behind a tone curve", replace(recipe, network=network + curve))
    return rows


def _told(recipe: Recipe) -> str:
    number, cost = standing(recipe.method)
    return f"Class {number}, cost {cost}."
