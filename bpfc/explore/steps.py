"""An attack that can be watched: PGD, one iterate after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bpfc.attacks import ImageRng, ball
from bpfc.attacks.ascent import projected_ascent
from bpfc.judge import Judge, exact_logits


@dataclass(frozen=True)
class Step:
    """An iterate.

    Attributes:
        number: of the steps taken; 0 is the random start.
        image: (C, H, W), the iterate. A random start may leave [0, 1]; the first step puts it back.
        logits: (classes,) of the iterate, in float32.
        broken: after how many steps the judge first let an iterate count; None until then.
    """

    number: int
    image: Tensor
    logits: Tensor
    broken: int | None


def step_size(eps: float, steps: int) -> float:
    """2.5 ε / steps: the ball's edge can be reached from anywhere, and left again (Madry et al. 2018, section 5)."""
    return 2.5 * eps / steps


def pgd_steps(model: nn.Module, image: Tensor, label: int, eps: float, steps: int, index: int = 0) -> Iterator[Step]:
    """The iterates of `bpfc.attacks.PGD` with seed 0 on one image, to the bit; nothing is dropped once it is broken.

    Args:
        model: in eval mode.
        image: (C, H, W) in [0, 1].
        label: what the attack leads away from.
        eps: in ℓ∞, units of [0, 1].
        steps: how many, each of `step_size`.
        index: of the image in its data set, which decides the random start.
    """
    images, labels, inside = image[None], torch.tensor([label], device=image.device), ball("linf", eps)
    judge = Judge(model, images, labels, inside)
    first = torch.tensor([0], device=image.device)
    current = inside.random(images, ImageRng(0, [index]))
    for number in range(steps + 1):
        judge.judge(first, current, number)
        broken = int(judge.step[0]) if judge.broken[0] else None
        yield Step(number, current[0], exact_logits(model, current)[0], broken)
        if number < steps:
            current = projected_ascent(
                model, images, labels, current, ball=inside, step_size=step_size(eps, steps), steps=1
            )
