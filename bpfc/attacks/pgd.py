"""PGD (Madry et al. 2018): random start in the ε-ball, steps of a fixed length."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bpfc.attacks.ascent import projected_ascent
from bpfc.attacks.balls import ball
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius
from bpfc.attacks.objectives import OBJECTIVES, ObjectiveName


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent.

    The start is not clipped to the box before the first gradient, as in the paper's scripts.
    """

    eps: float
    step_size: float
    steps: int
    loss: ObjectiveName = "ce"
    norm: Norm = "linf"
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps, step_size=self.step_size)
        check_count(steps=self.steps)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        inside = ball(self.norm, self.eps)
        return projected_ascent(
            model,
            images,
            labels,
            inside.random(images, rng),
            ball=inside,
            step_size=self.step_size,
            steps=self.steps,
            watch=watch,
            objective=OBJECTIVES[self.loss],
        )
