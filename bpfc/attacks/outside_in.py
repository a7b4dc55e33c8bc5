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
"""Lengths of the first step, and of the one that would come after the last, in units of the radius."""


@dataclass(frozen=True)
class OutsideIn:
    """Ascent of the margin from the image, in a ball that is too wide at first and shrinks towards radius ε.

    The radius is 3ε to begin with. Where the iterate is misclassified or the network has no answer, it becomes 95 % of
    the iterate's distance, but never less than 0.97ε; where not, it grows by 1 %, but never past 3ε. So the walk comes
    in along the decision boundary, as that of FMN (Pintor et al. 2021) does, whose radius is the gradient's guess of
    the distance until it is outside, and that of FAB (Croce and Hein 2020), which needs more steps to get out.

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
        inside = ball(self.norm, self.eps)
        active, originals, current = torch.arange(len(images), device=images.device), images, images
        last, radii = images.clone(), images.new_full((len(images),), OUTERMOST * self.eps)
        for done in range(self.steps if len(images) else 0):
            gradient, logits = input_gradient(model, current, labels[active], margin)
            if watch is not None:
                going = ~watch(active, current, logits, done)
                if not going.any():
                    break
                if not going.all():
                    row_by_row = (active, originals, current, radii, gradient, logits)
                    active, originals, current, radii, gradient, logits = (x[going] for x in row_by_row)
            wrong = (logits.argmax(dim=1) != labels[active]) | ~logits.isfinite().all(dim=1)
            nearest = torch.minimum(radii, inside.distances(current - originals))
            radii = torch.where(wrong, INWARDS * nearest, OUTWARDS * radii)
            radii = radii.clamp(INNERMOST * self.eps, OUTERMOST * self.eps)
            around = radii.view(-1, 1, 1, 1)
            length = FIRST * (LAST / FIRST) ** (done / self.steps)
            current = inside.project(originals, inside.step(current, gradient, length * around), around)
            last[active] = current
        return inside.project(images, last)
