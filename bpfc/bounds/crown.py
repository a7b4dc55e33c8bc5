"""CROWN-IBP: linear bounds of the logits' differences, traced back to the images (Zhang et al. 2018; 2020).

From the logits backwards, each value that a difference depends on is replaced by a line below it in terms of the values
before; what remains at the images is a linear function, whose least value on the box is read off. Where a rectifier or
a pooling bends is told by interval bounds, which makes it cheap: one backward pass for each class.

Rounding: at each operation that rounds, a coefficient a costs |a| · (the operation's rounding), so that the result
holds for a forward in float32 (see `interval`). The arithmetic of this pass is paid for by the same terms: whatever is
summed up here is, term for term, no larger than |a| (|L| m + |b|) of an affine operation, since the lines below keep
within the magnitude of the value that they bound.
"""

import torch
from torch import Tensor

from bpfc.bounds.graph import Graph
from bpfc.bounds.interval import Bounds, Interval, without_label
from bpfc.bounds.operations import Add, Affine, Dense, Input, MaxPool, Rectify


def crown_margins(graph: Graph, bounds: Bounds, labels: Tensor) -> Tensor:
    """Lower bounds of logit_label − logit_j for every class j, (N, classes); 0 where j is the label.

    The work of one forward for each class. Neither tighter nor looser than `interval_margins` in every case: take the
    larger.

    Args:
        bounds: of `propagate`.
        labels: (N,).
    """
    backward = _Backward(graph, bounds, labels)
    for place in range(len(graph.operations) - 1, -1, -1):
        backward.step(place)
    return without_label(backward.constant, labels, 0.0)


class _Backward:
    """The differences as linear functions of the values not yet replaced.

    Attributes:
        constant: (N, classes).
        coefficients: for a value of the network, (N, classes, *shape).
    """

    def __init__(self, graph: Graph, bounds: Bounds, labels: Tensor) -> None:
        self.graph, self.bounds = graph, bounds
        self.coefficients: dict[int, Tensor] = {}
        last, logits = graph.operations[-1], bounds[-1]
        if isinstance(last, Dense):  # its differences are those of its rows
            weight, self.constant = last.differences(labels, logits.lower)
            self._add(last.inputs[0], weight)
            if logits.rounding is not None:
                self.constant = self.constant - logits.rounding - logits.rounding.gather(1, labels[:, None])
        else:
            each = torch.eye(graph.classes, dtype=logits.lower.dtype, device=logits.lower.device)
            self.constant = torch.zeros_like(logits.lower)
            self._add(len(graph.operations) - 1, each[labels][:, None] - each)

    def step(self, place: int) -> None:
        """Replaces the value at `place` by those before it."""
        a = self.coefficients.pop(place, None)
        if a is None:
            return
        operation = self.graph.operations[place]
        if isinstance(operation, Input):
            box = self.bounds[place]
            self.constant = self.constant + _total(a.clamp_min(0), box.lower) + _total(a.clamp_max(0), box.upper)
            return
        first = operation.inputs[0]
        rounding = self.bounds[place].rounding
        if rounding is not None:
            self.constant = self.constant - _total(a.abs(), rounding)
        if isinstance(operation, Affine):
            self.constant = self.constant + _total(a, operation.bias(a).expand(1, *operation.shape))
            back = operation.transposed(a.flatten(0, 1))
            self._add(first, back.view(*a.shape[:2], *operation.source))
        elif isinstance(operation, Add):
            self._add(first, a)
            self._add(operation.inputs[1], a)
        elif isinstance(operation, Rectify):
            self._add(first, self._rectify(a, self.bounds[first]))
        elif isinstance(operation, MaxPool):
            self._add(first, self._max_pool(a, operation, self.bounds[first]))
        else:
            self._add(first, a.reshape(*a.shape[:2], *self.graph.operations[first].shape))

    def _add(self, place: int, a: Tensor) -> None:
        self.coefficients[place] = self.coefficients[place] + a if place in self.coefficients else a

    def _rectify(self, a: Tensor, x: Interval) -> Tensor:
        """max(x, 0) lies above x or 0, whichever loses less; and below the chord from (l, 0) to (u, u)."""
        bends = (x.lower < 0) & (x.upper > 0)
        below = (x.upper > -x.lower).to(a.dtype)
        above = torch.where(bends, x.upper / torch.where(bends, x.upper - x.lower, 1), below)
        positive, negative = a.clamp_min(0), a.clamp_max(0)
        self.constant = self.constant + _total(negative, torch.where(bends, -above * x.lower, 0))
        return positive * below[:, None] + negative * above[:, None]

    def _max_pool(self, a: Tensor, pool: MaxPool, x: Interval) -> Tensor:
        """The largest of a window lies above the number of the largest lower bound.

        And below max(x, v), where x is the number of the largest upper bound u and v the largest upper bound of the
        others: that is x itself if its lower bound l is v or more, else below the chord from (l, v) to (u, u).
        """
        _, lowest = pool.places(x.lower)
        upper, highest = pool.places(x.upper)
        lower = x.lower.flatten(2).gather(2, highest.flatten(2)).view_as(upper)
        windows = pool.windows(x.upper)
        second = windows.topk(2, dim=2).values[:, :, 1] if windows.shape[2] > 1 else torch.full_like(upper, -torch.inf)
        bends = lower < second
        slope = torch.where(bends, (upper - second) / torch.where(bends, upper - lower, 1), 1)
        self.constant = self.constant + _total(a.clamp_max(0), torch.where(bends, second - slope * lower, 0))
        back = a.new_zeros(*a.shape[:3], x.lower[0, 0].numel())
        for places, lines in ((lowest, a.clamp_min(0)), (highest, a.clamp_max(0) * slope[:, None])):
            at = places.flatten(2)[:, None].expand(-1, a.shape[1], -1, -1)
            back = back.scatter_add(3, at, lines.flatten(3))
        return back.view(*a.shape[:2], *x.lower.shape[1:])


def _total(a: Tensor, value: Tensor) -> Tensor:
    """Σ a · value over all but image and class: a (N, classes, *shape), value (N or 1, *shape)."""
    flat = value.flatten(1).expand(len(a), -1)
    return torch.einsum("nkd,nd->nk", a.flatten(2), flat)
