"""FGSM (Goodfellow et al. 2015): one step of length ε, no random start."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bpfc.attacks.base import Rng, Watch, check_radius, sign_ascent


@dataclass(frozen=True)
class FGSM:
    """clip(x + ε · sign ∇ cross-entropy)."""

    eps: float
    steps: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(eps=self.eps)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        return sign_ascent(model, images, labels, images, eps=self.eps, step=self.eps, steps=1, watch=watch)
