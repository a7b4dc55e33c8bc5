"""Interval bounds: each number of the network between a lower and an upper bound, layer by layer (Gowal et al. 2019).

With `unit` = 0 they are plain arithmetic, which training differentiates. A certificate is made in float64 with
`unit` = FLOAT32: then they hold for every number that a forward in float32 computes, not only for the network in real
arithmetic. The argument, by induction over the operations:

A number of L x + b, computed in float32 by any order of summation from computed inputs x, is off from the real L x + b
by at most γ_n (|L| |x| + |b|), γ_n = n u / (1 − n u), u = 2⁻²⁴, with n the roundings that a term may take part in
(Higham 2002, sections 3.1 and 4.2). The inputs lie in their bounds, so |x| ≤ m, the larger of the bounds' absolute
values, and γ (|L| m + |b|) widens the output's bounds: its *rounding*. γ is taken for n + 1. The one unit more is 2²⁹
units of float64, and pays for the rounding of the bounds' own arithmetic, here and in `crown`: that is a few sums of at
most 2²⁸ terms, none larger than the terms of |L| m + |b|. Rectifying, pooling by the maximum and reshaping do not
round. What float32 may underflow is far below TINY, and a number that it might overflow gets infinite bounds.

Out of this: convolutions by Winograd's or Fourier's way, and arithmetic that is not float32 under its name (TF32 on a
GPU, torch.set_float32_matmul_precision other than "highest").
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bpfc.bounds.graph import Graph
from bpfc.bounds.operations import Add, Affine, Dense, Input, MaxPool, Operation, Rectify

FLOAT32 = 2.0**-24
"""Unit roundoff of float32."""

TINY = 2.0**-100
HUGE = 2.0**126


@dataclass(frozen=True)
class Interval:
    """Bounds of one value of the network, both (N, *shape).

    Attributes:
        rounding: by how much a forward in float32 may miss, at this operation alone; None where it does not round.
    """

    lower: Tensor
    upper: Tensor
    rounding: Tensor | None = None

    @property
    def magnitude(self) -> Tensor:
        """The larger of the bounds' absolute values."""
        return torch.maximum(self.lower.abs(), self.upper.abs())


Bounds = list[Interval]


def propagate(graph: Graph, lower: Tensor, upper: Tensor, *, unit: float = 0.0) -> Bounds:
    """Bounds of every value of the network, in the order of graph.operations; the last are those of the logits.

    At most three forwards' work: two, and one more with `unit`. Differentiates to the weights and the box.

    Args:
        lower, upper: the box of images, (N, C, H, W); their dtype is that of the bounds.
        unit: FLOAT32 for bounds that hold for a forward in float32 (give float64), 0 for plain arithmetic.
    """
    bounds: Bounds = []
    for operation in graph.operations:
        if isinstance(operation, Input):
            bounds.append(Interval(lower, upper))
        else:
            bounds.append(_step(operation, [bounds[i] for i in operation.inputs], unit))
    return bounds


def interval_bounds(graph: Graph, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of the logits, (N, classes), for images in the box from `lower` to `upper`."""
    logits = propagate(graph, lower, upper)[-1]
    return logits.lower, logits.upper


def interval_margins(graph: Graph, bounds: Bounds, labels: Tensor) -> Tensor:
    """Lower bounds of logit_label − logit_j for every class j, (N, classes); 0 where j is the label.

    A linear layer at the end is merged into the differences, which is tighter than the difference of bounds. Their
    negatives are the logits that the cross-entropy of interval training takes.

    Args:
        bounds: of `propagate`.
        labels: (N,).
    """
    last, logits = graph.operations[-1], bounds[-1]
    if isinstance(last, Dense):
        inputs = bounds[last.inputs[0]]
        weight, bias = last.differences(labels, inputs.lower)
        centre, radius = (inputs.lower + inputs.upper) / 2, (inputs.upper - inputs.lower) / 2
        margins = torch.einsum("nkh,nh->nk", weight, centre) - torch.einsum("nkh,nh->nk", weight.abs(), radius) + bias
        if logits.rounding is not None:
            margins = margins - logits.rounding - logits.rounding.gather(1, labels[:, None])
    else:
        margins = logits.lower.gather(1, labels[:, None]) - logits.upper
    return without_label(margins, labels, 0.0)


def without_label(margins: Tensor, labels: Tensor, value: float) -> Tensor:
    """Margins (N, classes) with `value` in the label's place: 0 for a loss, ∞ for the least margin."""
    return margins.scatter(1, labels[:, None], value)


def gamma(terms: int, unit: float) -> float:
    """γ of terms + 1 roundings: see above."""
    share = (terms + 1) * unit
    return share / (1 - share) if share < 1 else torch.inf


def _step(operation: Operation, inputs: Bounds, unit: float) -> Interval:
    x = inputs[0]
    if isinstance(operation, Affine):
        centre, radius = (x.lower + x.upper) / 2, (x.upper - x.lower) / 2
        middle, width = operation.linear(centre) + operation.bias(centre), operation.absolute(radius)
        if not unit:
            return Interval(middle - width, middle + width)
        size = operation.absolute(x.magnitude) + operation.bias_magnitude(centre)
        rounding = _rounding(size, operation.terms, unit)
        return Interval(middle - width - rounding, middle + width + rounding, rounding)
    if isinstance(operation, Add):
        y = inputs[1]
        lower, upper = x.lower + y.lower, x.upper + y.upper
        if not unit:
            return Interval(lower, upper)
        rounding = _rounding(x.magnitude + y.magnitude, 1, unit)
        return Interval(lower - rounding, upper + rounding, rounding)
    if isinstance(operation, Rectify):
        return Interval(x.lower.relu(), x.upper.relu())
    if isinstance(operation, MaxPool):
        return Interval(operation.pool(x.lower), operation.pool(x.upper))
    return Interval(x.lower.reshape(-1, *operation.shape), x.upper.reshape(-1, *operation.shape))


def _rounding(size: Tensor, terms: int, unit: float) -> Tensor:
    """Of a sum whose terms' absolute values sum up to `size`; infinite where float32 might overflow."""
    return (gamma(terms, unit) * size + TINY).masked_fill(~(size < HUGE), torch.inf)
