"""The checks, one file each."""

from bpfc.auditing.checks import (
    adaptive,
    answers,
    beside,
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
    training_log,
    transfer,
    unbounded,
    unfinished,
    zero_gradients,
)
from bpfc.auditing.finding import Check

EVERY: tuple[Check, ...] = tuple(
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
        training_log,
        inputs,
        beside,
    )
)
"""In the order of their numbers."""
