"""The checks, one file each, cheapest knowledge first; and those that are known but not built."""

from bpfc.auditing.checks import (
    adaptive,
    answers,
    gradient_free,
    inputs,
    logit_scale,
    noise,
    one_step,
    other_losses,
    radii,
    restarts,
    steadiness,
    steps,
    transfer,
    unbounded,
    unfinished,
    zero_gradients,
)
from bpfc.auditing.finding import Check, Measured

CHECKS: tuple[Check, ...] = tuple(
    room.CHECK
    for room in (
        one_step,
        steps,
        restarts,
        radii,
        unbounded,
        other_losses,
        logit_scale,
        zero_gradients,
        gradient_free,
        noise,
        transfer,
        steadiness,
        unfinished,
        answers,
        adaptive,
    )
)


def _not_built(id: str, title: str, threshold: str, source: str) -> Check:
    return Check(id, title, threshold, source, "", "", "", "", lambda _: Measured(None, "not built"))


EVERY = (
    *CHECKS,
    _not_built("C16", "gradients along training", "their alignment falls", "Andriushchenko and Flammarion 2020"),
    inputs.CHECK,
    _not_built("C18", "controls beside the model", "an undefended twin stands", "Carlini et al. 2019"),
)
"""In the order of their numbers."""
