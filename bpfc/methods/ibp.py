"""Training with interval bounds (Gowal et al. 2019, with the regulariser of Shi et al. 2021)."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.bounds import Bounds, Graph, interval_margins, propagate, trace
from bpfc.bounds.batch import Statistics, normalised_by, noted
from bpfc.bounds.merging import merged
from bpfc.bounds.operations import Rectify
from bpfc.data import check_units
from bpfc.methods.base import MethodOutput, check_classes
from bpfc.models.curve import behind
from bpfc.wrappers import logits_of

TOLERANCE = 0.5
"""τ of Shi's regulariser."""
FLOOR = 1e-3
"""The least share of ε that the regulariser is taken at: intervals of no width tell it nothing of how they widen."""


@dataclass(frozen=True)
class IBP:
    """Cross-entropy of the images and of the worst logits that interval bounds leave possible in the ball.

    L = mean over images of [ (1 − κ f) ce(g(x), y) + κ f ce(worst(x, f ε), y) ] + μ (1 − f) R. worst has 0 at the label
    and elsewhere an upper bound of z_j − z_y over ball and box. f goes from 0 to 1 in the course of training, and with
    it ε: bounds of a network that was never trained for them are so wide that constant logits win. R is Shi's
    regulariser (`balance`).

    Bounds start behind a tone curve, if the model has one in front, and take BatchNorm as the clean images have it: in
    train mode by the batch's statistics, gradient and all. A step costs about three normal ones.
    """

    eps: float = 0.1
    """ℓ∞ radius, in units of [0, 1]."""
    weight: float = 0.5
    """κ, the share of the worst logits' loss, at the end; 0 … 1."""
    balance: float = 0.0
    """μ, the weight of Shi's regulariser, to begin with."""
    grown: float = 1.0
    """f, the share of ε and of κ that is reached; the recipe's schedule moves it."""
    name: ClassVar[str] = "ibp"

    def __post_init__(self) -> None:
        check_bounds(eps=self.eps, weight=self.weight, grown=self.grown)
        if not self.balance >= 0:
            raise ValueError(f"balance={self.balance!r}: μ must be 0 or more")

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the clean images.

        Raises:
            UntraceableError: the network holds something that no bound is known for.
        """
        check_units(model, images)
        check_classes(labels)
        with noted(model) as statistics:
            logits = logits_of(model, images)
        cross_entropy = F.cross_entropy(logits, labels)
        reached = max(self.grown, FLOOR) if self.balance else self.grown
        graph, bounds = ball_bounds(model, images, reached * self.eps, statistics)
        worst = F.cross_entropy(-interval_margins(graph, bounds, labels).float(), labels)
        share = self.weight * self.grown
        loss = (1 - share) * cross_entropy + share * worst
        parts = {"cross_entropy": cross_entropy.detach(), "worst_cross_entropy": worst.detach()}
        if self.balance:
            parts["balance"] = (uneven := balance(graph, bounds)).detach()
            loss = loss + self.balance * (1 - self.grown) * uneven
        return MethodOutput(loss, logits, parts)

    def weighted(self, factor: float) -> Self:
        """With ε and κ grown to that share of what they are to be."""
        return replace(self, grown=self.grown * factor)

    @property
    def in_force(self) -> dict[str, float]:
        """κ f and f ε, for the log."""
        return {"weight": self.weight * self.grown, "eps": self.eps * self.grown}


def check_bounds(*, eps: float, **shares: float) -> None:
    if not 0 < eps <= 1:
        raise ValueError(f"eps={eps!r}: must be above 0 and at most 1")
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value!r}: must be a share, from 0 to 1")


def ball_bounds(
    model: nn.Module, images: Tensor, eps: float, statistics: Statistics | None = None
) -> tuple[Graph, Bounds]:
    """The network behind the model's tone curve, if it has one, and interval bounds of its values over the ball.

    BatchNorm is taken by `statistics`, or where there are none by the running ones.
    """
    found = behind(model)
    if found is None:
        lower, upper = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
    else:
        lower, upper = found[0].image(images, eps)
    graph = _traced_once(model, tuple(images.shape[1:]), tuple(model.modules()))
    with normalised_by(statistics or {}):
        return graph, propagate(graph, lower, upper)


def balance(graph: Graph, bounds: Bounds) -> Tensor:
    """Shi's regulariser (2021, section 3.3): 0 where intervals don't widen and rectifiers are on as much as off.

    Mean over the rectifiers of [τ − E(Δ_0) / E(Δ_i)]⁺ / τ, with Δ the widths of the images' and of the rectifier's
    intervals, plus [τ − r]⁺ / τ for two ratios r ≤ 1: of the sure-on to the sure-off neurons' summed centres, and of
    their summed squared deviations from the mean centre.
    """
    first = (bounds[0].upper - bounds[0].lower).mean()
    rectified = [bounds[operation.inputs[0]] for operation in graph.operations if isinstance(operation, Rectify)]
    total = torch.zeros((), device=first.device)
    for interval in rectified:
        centre, width = (interval.lower + interval.upper) / 2, interval.upper - interval.lower
        total = total + F.relu(TOLERANCE - first / width.mean().clamp_min(1e-12))
        on, off = interval.lower > 0, interval.upper < 0
        deviation = (centre - centre.mean()).square()
        sums = ((centre * on).sum(), -(centre * off).sum()), ((deviation * on).sum(), (deviation * off).sum())
        for high, low in sums:
            if high > 0 and low > 0:  # where no neuron is sure, there is nothing to balance yet
                total = total + F.relu(TOLERANCE - torch.minimum(high / low, low / high))
    return total / (TOLERANCE * max(len(rectified), 1))


def traced(model: nn.Module, shape: tuple[int, ...]) -> Graph:
    """The network behind the model's tone curve, if it has one. Raises UntraceableError where no bound is known."""
    found = behind(model)
    return merged(trace(model if found is None else found[1], shape))


@lru_cache(maxsize=1)
def _traced_once(model: nn.Module, shape: tuple[int, ...], layers: tuple[nn.Module, ...]) -> Graph:
    """Once a model with these layers: a graph reads the parameters where they live, and follows their training."""
    return traced(model, shape)
