"""From outside the ball inwards: for networks that are flat around an image and give way beyond the radius."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import input_gradient
from bpfc.attacks.balls import ball
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius
from bpfc.attacks.objectives import margin

OUTERMOST = 3.0
"""The first radius, and the largest, in units of ε."""
INNERMOST = 0.97
"""The smallest: where the walk crosses the boundary to and fro, it is inside the ball with both feet."""
INWARDS = 0.95
"""The share of the distance that is left where the iterate is misclassified."""
OUTWARDS = 1.01
"""By how much the radius grows again where it is not."""
FIRST, LAST = 0.4, 0.1
"""Lengths of the first step and the last, in units of the radius."""


@dataclass(frozen=True)
class OutsideIn:
    """Ascent of the margin from the image, in a ball whose radius follows the nearest misclassified point.

    The radius is 3ε at first. Where the iterate is misclassified, it becomes 95 % of the iterate's distance; where it
    is not, it grows by 1 %. So the walk comes in along the decision boundary. That is the way of FMN (Pintor et al.
    2021), which starts at the image, and of FAB (Croce and Hein 2020), which needs more steps to get out.

    An ascent inside the ball sees nothing of a boundary that it could reach only across a plateau. There are no random
    numbers in it. The last iterates come back, each projected into the ball of radius ε.
    """

    eps: float
    steps: int
    norm: Norm = "linf"
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps)
        check_count(steps=self.steps)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        unit = ball(self.norm, 1.0)
        active, current = torch.arange(len(images), device=images.device), images
        last, radii = images.clone(), images.new_full((len(images),), OUTERMOST * self.eps)
        for done in range(self.steps if len(images) else 0):
            gradient, logits = input_gradient(model, current, labels[active], margin)
            if watch is not None:
                going = ~watch(active, current, logits, done)
                if not going.any():
                    break
                active, current, gradient, logits = (x[going] for x in (active, current, gradient, logits))
            originals = images[active]
            wrong = logits.argmax(dim=1) != labels[active]
            nearest = torch.minimum(radii[active], unit.distances(current - originals))
            wanted = torch.where(wrong, INWARDS * nearest, OUTWARDS * radii[active])
            radii[active] = wanted.clamp(INNERMOST * self.eps, OUTERMOST * self.eps)
            around = ball(self.norm, radii[active].view(-1, 1, 1, 1))
            length = FIRST * (LAST / FIRST) ** (done / self.steps)
            current = around.move(originals, current, gradient, length * around.eps)
            last[active] = current
        return ball(self.norm, self.eps).project(images, last)
