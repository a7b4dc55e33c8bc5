"""R-FGSM (Tramèr et al. 2018): a random step along a corner of the box, then one along the gradient's sign."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bpfc.attacks.ascent import projected_ascent
from bpfc.attacks.balls import ball
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_radius


@dataclass(frozen=True)
class RFGSM:
    """x₁ = x + α · sign(noise), then clip(x₁ + s · sign ∇ at x₁), s = step_size; within α + s of x, which is its ε.

    At radius ε the paper takes α = s = ε / 2.
    """

    alpha: float
    step_size: float
    norm: ClassVar[Norm] = "linf"
    steps: ClassVar[int] = 1
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(alpha=self.alpha, step_size=self.step_size)

    @property
    def eps(self) -> float:
        return self.alpha + self.step_size

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        start = images + self.alpha * rng.uniform(images).sign()
        inside = ball(self.norm, self.eps)
        return projected_ascent(
            model, images, labels, start, ball=inside, step_size=self.step_size, steps=1, watch=watch
        )
