"""TRADES (Zhang et al. 2019): cross-entropy on the images, plus how far an attack can move the prediction."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.attacks.ascent import projected_ascent
from bpfc.attacks.balls import LinfBall
from bpfc.attacks.base import check_count, check_radius
from bpfc.data import check_units
from bpfc.methods.base import MethodOutput
from bpfc.modes import eval_mode
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class TRADES:
    """loss = mean over images of [ ce(g(x), y) + β · KL(softmax g(x) ‖ softmax g(x')) ], x' = argmax of that KL.

    x' is found in eval mode by steps along the gradient's sign from x + 0.001 · N(0, 1), as in the authors' code.
    """

    eps: float = 8 / 255
    """ℓ∞ radius, in units of [0, 1]."""
    step_size: float = 2 / 255
    """Length of a step, likewise."""
    steps: int = 10
    """Steps an image."""
    weight: float = 6.0
    """β, the weight of the divergence."""
    name: ClassVar[str] = "trades"

    def __post_init__(self) -> None:
        check_radius(eps=self.eps, step_size=self.step_size)
        check_count(steps=self.steps)
        if not self.weight >= 0:
            raise ValueError(f"weight={self.weight!r}: β must be 0 or more")

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the clean images."""
        check_units(model, images)
        with eval_mode(model):
            with torch.no_grad():
                targets = logits_of(model, images).softmax(dim=1)
            start = images + 0.001 * torch.randn_like(images)
            inside = LinfBall(self.eps)
            adversaries = projected_ascent(
                model,
                images,
                targets,
                start,
                ball=inside,
                step_size=self.step_size,
                steps=self.steps,
                objective=divergence,
            )
        logits = logits_of(model, images)
        cross_entropy = F.cross_entropy(logits, labels)
        # By logarithms: of a probability that has underflowed to 0, the divergence's gradient would be NaN.
        both = logits_of(model, adversaries).log_softmax(dim=1), logits.log_softmax(dim=1)
        distance = F.kl_div(*both, reduction="batchmean", log_target=True)
        parts = {"cross_entropy": cross_entropy.detach(), "regulariser": distance.detach()}
        return MethodOutput(cross_entropy + self.weight * distance, logits, parts)

    def weighted(self, factor: float) -> Self:
        return replace(self, weight=self.weight * factor)


def divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """KL(targets ‖ softmax of the logits), summed over the images; targets are probabilities (N, classes)."""
    return F.kl_div(logits.log_softmax(dim=1), targets, reduction="sum")
