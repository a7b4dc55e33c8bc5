"""A penalty on what a linear attacker gains inside ball and box, beside the paper's consistency."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.data import check_units
from bpfc.methods.base import MethodOutput, check_classes
from bpfc.methods.bpfc import BPFC
from bpfc.models.curve import behind
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class Margin:
    """Cross-entropy with the likeliest other logit raised by ρ P, plus λ times the distance of BPFC.

    L = mean over images of [ ce(g(x) + ρ P e_j, y) + λ Σ_classes (g(x) − g(q(x)))² ]. j is the likeliest class but the
    label at x, and ∇ the gradient of g_j − g_y by the image, at x or at q(x). Between the lowest and highest values
    that ball and box leave to each pixel, the linear function of that gradient gains at most

        P = Σ_pixels max(∇, 0) (high − x) + max(−∇, 0) (x − low).

    Behind a tone curve the gradient is that by the curve's answer, and low, x and high are the curve's answers as well.
    P is differentiated to the weights: a second backward through the network, and no adversarial image. A step costs
    about four normal ones.
    """

    eps: float = 0.1
    """ℓ∞ radius of the ball, in units of [0, 1]."""
    k: int = 6
    """How many bit planes q drops, 1 … 7."""
    weight: float = 10.0
    """λ, the weight of the consistency."""
    strength: float = 1.0
    """ρ, the share of P by which the logit is raised."""
    at: Literal["image", "coarse"] = "image"
    """Where the gradient is taken: x or q(x)."""
    blocks: tuple[int, ...] = (1, 2, 4, 7, 14)
    """Of q's noise, as in BPFC."""
    name: ClassVar[str] = "margin"

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise ValueError(f"eps={self.eps!r}: must be above 0 and at most 1")
        if not self.strength >= 0:
            raise ValueError(f"strength={self.strength!r}: ρ must be 0 or more")
        self.consistency  # noqa: B018 - raises on a wrong k, weight or blocks

    @property
    def consistency(self) -> BPFC:
        return BPFC(k=self.k, weight=self.weight, blocks=self.blocks)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the clean images, not raised."""
        check_units(model, images)
        check_classes(labels)
        network, coarse = model, self.consistency.coarsen(images)
        lower, upper = (images - self.eps).clamp_min(0), (images + self.eps).clamp_max(1)
        if (found := behind(model)) is not None:
            curve, network = found
            images, coarse, lower, upper = curve(images), curve(coarse), curve(lower), curve(upper)
        place = (images if self.at == "image" else coarse).detach().requires_grad_()
        # In two forwards, the coarse half first as in BPFC, so that the gradient runs through one of them alone.
        coarse_logits = logits_of(network, coarse if self.at == "image" else place)
        logits = logits_of(network, place if self.at == "image" else images)
        own = F.one_hot(labels, logits.shape[1]).bool()
        likeliest = logits.detach().masked_fill(own, -torch.inf).argmax(dim=1, keepdim=True)
        there = logits if self.at == "image" else coarse_logits
        gap = there.gather(1, likeliest)[:, 0] - there[own]
        (gradient,) = torch.autograd.grad(gap.sum(), place, create_graph=True)
        gain = reach(gradient, images, lower, upper)
        raised = logits.scatter_add(1, likeliest, self.strength * gain[:, None])
        cross_entropy = F.cross_entropy(raised, labels)
        distance = (logits - coarse_logits).square().sum(dim=1).mean()
        parts = {
            "cross_entropy": F.cross_entropy(logits.detach(), labels),
            "penalised_cross_entropy": cross_entropy.detach(),
            "gain": gain.detach().mean(),
            "regulariser": distance.detach(),
        }
        return MethodOutput(cross_entropy + self.weight * distance, logits, parts)

    def weighted(self, factor: float) -> Self:
        """With ρ `factor` times as large; λ stays."""
        return replace(self, strength=self.strength * factor)

    @property
    def in_force(self) -> dict[str, float]:
        """λ and ρ, for the log."""
        return {"weight": self.weight, "strength": self.strength}


def reach(gradient: Tensor, points: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """P: the most that a linear function of that gradient gains from `points` to a point between the bounds, (N,)."""
    gain = gradient.clamp_min(0) * (upper - points) + (-gradient).clamp_min(0) * (points - lower)
    return gain.float().flatten(1).sum(dim=1)
