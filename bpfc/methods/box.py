"""Consistency with random images of the ε-ball in place of the paper's coarse version."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.bitplanes import uniform_like
from bpfc.data import check_units
from bpfc.methods.base import MethodOutput
from bpfc.methods.bpfc import both_logits, check_blocks, draw_block


@dataclass(frozen=True)
class BoxConsistency:
    """Cross-entropy plus λ times the squared distance to the logits of a random image of the ball.

    L = mean over images of [ ce(g(x), y) + λ Σ_classes (g(x) − g(r(x)))² ], gradients through both halves. r(x) is
    x + ε t in [0, 1]; t is U(−1, 1) for half of the images, drawn by lot, and its sign, a corner of the ball, for the
    others. It is one number on each block of pixels. Corners of the ball are corners of a tone curve's box as well.
    """

    eps: float = 0.1
    """ℓ∞ radius, in units of [0, 1]."""
    weight: float = 10.0
    """λ, the weight of the regulariser."""
    blocks: tuple[int, ...] = (1, 2, 4, 7, 14)
    """Sides of the blocks of pixels that share one number, drawn for each batch."""
    name: ClassVar[str] = "box-consistency"

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise ValueError(f"eps={self.eps!r}: must be above 0 and at most 1")
        if not self.weight >= 0:
            raise ValueError(f"weight={self.weight!r}: λ must be 0 or more")
        check_blocks(self.blocks)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the clean images."""
        check_units(model, images)
        logits, other_logits = both_logits(model, images, self.elsewhere(images))
        cross_entropy = F.cross_entropy(logits, labels)
        distance = (logits - other_logits).square().sum(dim=1).mean()
        parts = {"cross_entropy": cross_entropy.detach(), "regulariser": distance.detach()}
        return MethodOutput(cross_entropy + self.weight * distance, logits, parts)

    def weighted(self, factor: float) -> Self:
        return replace(self, weight=self.weight * factor)

    def elsewhere(self, images: Tensor) -> Tensor:
        """r(x): a random image of each ball. Draws from torch's global generator."""
        way = uniform_like(images, 1.0, block=draw_block(self.blocks))
        corner = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        return (images + self.eps * way.sign().where(corner, way)).clamp(0, 1)
