"""FGSM (Goodfellow et al. 2015): one step of length ε, no random start."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bpfc.attacks.ascent import projected_ascent
from bpfc.attacks.balls import ball
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_radius


@dataclass(frozen=True)
class FGSM:
    """clip(x + ε · sign ∇ cross-entropy)."""

    eps: float
    norm: ClassVar[Norm] = "linf"
    steps: ClassVar[int] = 1
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(eps=self.eps)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        inside = ball(self.norm, self.eps)
        return projected_ascent(model, images, labels, images, ball=inside, step_size=self.eps, steps=1, watch=watch)
