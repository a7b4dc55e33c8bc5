"""RSS-AT (Vivek et al. 2019): regularised single-step adversarial training."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.attacks import FGSM, RFGSM, BatchRng
from bpfc.attacks.base import check_radius
from bpfc.methods.base import MethodOutput
from bpfc.modes import eval_mode
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class RSSAT:
    """Cross-entropy on FGSM images, plus λ times the distance to the logits of R-FGSM images.

    loss = mean over images of [ ce(g(x_F), y) + λ Σ_classes (g(x_F) − g(x_R))² ], x_F = FGSM at ε, and
    x_R = clip(x + α · sign(noise) + ε · sign ∇ there), not projected to the ε-ball. Both are made in eval mode, and go
    through one forward in train mode.
    """

    eps: float = 8 / 255
    """ℓ∞ radius, in units of [0, 1]."""
    alpha: float = 2 / 255
    """Length of the random step, likewise."""
    weight: float = 25.0
    """λ, the weight of the regulariser."""
    name: ClassVar[str] = "rss-at"

    def __post_init__(self) -> None:
        check_radius(eps=self.eps, alpha=self.alpha)
        if not self.weight >= 0:
            raise ValueError(f"weight={self.weight!r}: λ must be 0 or more")

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the FGSM images."""
        with eval_mode(model):
            first = FGSM(self.eps)(model, images, labels, BatchRng())
            second = RFGSM(self.alpha, self.eps)(model, images, labels, BatchRng())
        logits, random_logits = logits_of(model, torch.cat([first, second])).chunk(2)
        cross_entropy = F.cross_entropy(logits, labels)
        distance = (logits - random_logits).square().sum(dim=1).mean()
        parts = {"cross_entropy": cross_entropy.detach(), "regulariser": distance.detach()}
        return MethodOutput(cross_entropy + self.weight * distance, logits, parts)

    def weighted(self, factor: float) -> Self:
        return replace(self, weight=self.weight * factor)
