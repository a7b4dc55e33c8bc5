"""The paper's method: consistency of the logits between an image and its coarse version (section 4.2, Eq. 2)."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bpfc.bitplanes import quantize, uniform_like
from bpfc.data import check_units
from bpfc.methods.base import MethodOutput
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class BPFC:
    """Cross-entropy plus λ times the distance between the logits of an image and of its coarse version.

    L = mean over images of [ ce(g(x), y) + λ Σ_classes (g(x) − g(q(x)))² ], gradients through both halves.

        loss = BPFC(k=6, weight=25.0)(model, images, labels).loss
    """

    k: int = 5
    """How many bit planes the quantiser drops, 1 … bits − 1."""
    weight: float = 1.0
    """λ, the weight of the regulariser."""
    distance: Literal["l2", "l1"] = "l2"
    """Between logits: squared ℓ2, or ℓ1 (ablation A3, whose robustness is masked gradients)."""
    noise: bool = True
    """Noise before quantisation; without it, ablation A1 (simple quantisation)."""
    coarse: Literal["quantise", "uniform-noise"] = "quantise"
    """q(x): the quantiser, or x + U(−2^(k−1), 2^(k−1)) clipped: ablation A2. The paper gives only its name;
    the range is that of the quantisation error."""
    bits: int = 8
    """Bit depth of the images, 2 … 16."""
    blocks: tuple[int, ...] = (1,)
    """Sides of the blocks of pixels that share one number of the noise, drawn for each batch. 1 is the paper's noise,
    a number a pixel; with (1, 2, 4, 7, 14) it is coherent in space at times, as an attack's perturbation is."""
    name: ClassVar[str] = "bpfc"

    def __post_init__(self) -> None:
        quantize(torch.zeros(1), self.k, bits=self.bits, noise=False)  # raises on a wrong k or bits
        if not self.weight >= 0:
            raise ValueError(f"weight={self.weight!r}: λ must be 0 or more")
        check_blocks(self.blocks)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss on float images (N, C, H, W) in [0, 1], before any normalisation, and labels (N,).

        Raises:
            TypeError, ValueError: the images are in other units, see `check_units`.
        """
        check_units(model, images)
        logits, coarse_logits = both_logits(model, images, self.coarsen(images))
        cross_entropy = F.cross_entropy(logits, labels)
        difference = logits - coarse_logits
        distance = (difference.square() if self.distance == "l2" else difference.abs()).sum(dim=1).mean()
        parts = {"cross_entropy": cross_entropy.detach(), "regulariser": distance.detach()}
        return MethodOutput(cross_entropy + self.weight * distance, logits, parts)

    def weighted(self, factor: float) -> Self:
        return replace(self, weight=self.weight * factor)

    def coarsen(self, images: Tensor) -> Tensor:
        """q(x): images in [0, 1] to coarse images of the same shape and range. Draws from torch's global generator."""
        block = draw_block(self.blocks)
        if self.coarse == "quantise":
            noise = uniform_like(images, 1.0, block=block) if self.noise and block > 1 else self.noise
            return quantize(images, self.k, bits=self.bits, noise=noise)
        radius = 2 ** (self.k - 1) / (2**self.bits - 1)
        return (images + uniform_like(images, radius, block=block)).clamp(0, 1)


def check_blocks(blocks: tuple[int, ...]) -> None:
    if not blocks or min(blocks) < 1:
        raise ValueError(f"blocks={blocks!r}: must be one side of a block or more, each 1 or more, such as (1, 2, 4)")


def draw_block(blocks: tuple[int, ...]) -> int:
    """One of them, from torch's global generator, which is left alone where there is no choice."""
    return blocks[int(torch.randint(len(blocks), ()))] if len(blocks) > 1 else blocks[0]


def both_logits(model: nn.Module, images: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the images and of their coarse versions, float32.

    In one forward where that changes nothing but speed; in two, the coarse half first as in the authors' script, where
    the model trains batch statistics, so that each half is normalised by its own.
    """
    if any(layer.training and _normalises_by_batch(layer) for layer in model.modules()):
        coarse_logits = logits_of(model, coarse)
        return logits_of(model, images), coarse_logits
    logits, coarse_logits = logits_of(model, torch.cat([images, coarse])).chunk(2)
    return logits, coarse_logits


def _normalises_by_batch(layer: nn.Module) -> bool:
    """Whether it is BatchNorm; in a script, where a layer has no class of its own, by the name of its former one."""
    return isinstance(layer, _BatchNorm) or "BatchNorm" in getattr(layer, "original_name", "")
