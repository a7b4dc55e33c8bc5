"""The paper's method with interval bounds: consistency across bit planes, and a share of the bounds' worst logits."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.bounds import interval_margins
from bpfc.bounds.batch import noted
from bpfc.data import check_units
from bpfc.methods.base import MethodOutput, check_classes
from bpfc.methods.bpfc import BPFC, both_logits
from bpfc.methods.ibp import ball_bounds, check_bounds


@dataclass(frozen=True)
class BPFCIBP:
    """L = mean of [ (1 − κ f) ce(g(x), y) + κ f ce(worst(x, f ε), y) + λ Σ_classes (g(x) − g(q(x)))² ].

    The first two terms are those of IBP, f its schedule; the last is BPFC's. A step costs about four normal ones.
    """

    eps: float = 0.1
    """ℓ∞ radius of the bounds, in units of [0, 1]."""
    k: int = 6
    """How many bit planes q drops, 1 … 7."""
    weight: float = 10.0
    """λ, the weight of the consistency."""
    share: float = 0.5
    """κ, the share of the worst logits' loss, at the end; 0 … 1."""
    blocks: tuple[int, ...] = (1,)
    """Of q's noise, as in BPFC."""
    grown: float = 1.0
    """f, the share of ε and of κ that is reached; the recipe's schedule moves it."""
    name: ClassVar[str] = "bpfc-ibp"

    def __post_init__(self) -> None:
        check_bounds(eps=self.eps, share=self.share, grown=self.grown)
        self.consistency  # noqa: B018 - raises on a wrong k, weight or blocks

    @property
    def consistency(self) -> BPFC:
        return BPFC(k=self.k, weight=self.weight, blocks=self.blocks)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the clean images. Raises UntraceableError as IBP does."""
        check_units(model, images)
        check_classes(labels)
        with noted(model) as statistics:  # of the clean images, whose forward comes last
            logits, coarse_logits = both_logits(model, images, self.consistency.coarsen(images))
        cross_entropy = F.cross_entropy(logits, labels)
        distance = (logits - coarse_logits).square().sum(dim=1).mean()
        graph, bounds = ball_bounds(model, images, self.grown * self.eps, statistics)
        worst = F.cross_entropy(-interval_margins(graph, bounds, labels).float(), labels)
        share = self.share * self.grown
        parts = {
            "cross_entropy": cross_entropy.detach(),
            "worst_cross_entropy": worst.detach(),
            "regulariser": distance.detach(),
        }
        loss = (1 - share) * cross_entropy + share * worst + self.weight * distance
        return MethodOutput(loss, logits, parts)

    def weighted(self, factor: float) -> Self:
        """With ε and κ grown to that share of what they are to be; λ stays."""
        return replace(self, grown=self.grown * factor)

    @property
    def in_force(self) -> dict[str, float]:
        """λ, κ f and f ε, for the log."""
        return {"weight": self.weight, "share": self.share * self.grown, "eps": self.eps * self.grown}
