"""What certifiers share: the box that every image of the verdict lies in, and parts that fit the memory."""

from collections.abc import Callable
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from bpfc.bounds import FLOAT32, Bounds, Graph, propagate, trace, without_label
from bpfc.errors import UserError
from bpfc.judge import SLACK

ROUNDING = 2.0**-22
"""More than float32's rounding adds to a distance that the judge measures, and float64's to this box."""

MEMORY = 2**24
"""How many float64 numbers the bounds of one part may hold: 128 MiB; convolutions take as much again on the way."""

Radius = float | Tensor
"""ε in ℓ∞, in units of [0, 1]: one for all images, or (N,)."""


class ContradictionError(UserError):
    """What is proven does not hold: a fault of this package, or an arithmetic that is not float32."""


class Certifier(Protocol):
    """A frozen dataclass that bounds margins from below."""

    name: ClassVar[str]

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, eps: Radius) -> Tensor:
        """For each image the proven lower bound (N,), float64, of logit_label − the largest other logit.

        It holds for every image that the judge lets pass as a perturbation: finite, in [0, 1], within ε (and the
        judge's own slack of 1e-6) in ℓ∞; and for the logits that a forward in float32 computes. −∞ where nothing is
        proven.

        Args:
            model: in eval mode.
            images: float32 (N, C, H, W) in [0, 1].
            labels: (N,).
            eps: see Radius.

        Raises:
            bpfc.bounds.UntraceableError: no bounds are known for a part of the model.
        """
        ...


def box(images: Tensor, eps: Radius) -> tuple[Tensor, Tensor]:
    """Lower and upper pixels, float64, between which every image that the judge lets pass lies."""
    radius = torch.as_tensor(eps, dtype=torch.float64, device=images.device) + SLACK + ROUNDING
    room = radius.view(-1, 1, 1, 1)
    return (images.double() - room).clamp_min(0), (images.double() + room).clamp_max(1)


def least_margins(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: Radius,
    margins: Callable[[Graph, Bounds, Tensor], Tensor],
    extra: Callable[[Graph], int] = lambda graph: 0,
) -> Tensor:
    """The least of the margins (N, classes) that a method bounds, for each image.

    Args:
        margins: of a graph, its bounds and labels.
        extra: how many numbers the method holds for an image, beside the interval bounds.
    """
    graph = trace(model, images.shape[1:])
    part = max(1, MEMORY // (3 * graph.numbers + extra(graph)))
    radii = torch.as_tensor(eps, dtype=torch.float64, device=images.device).expand(len(images))
    found = []
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        for some, its, room in zip(images.split(part), labels.split(part), radii.split(part), strict=True):
            bounds = propagate(graph, *box(some, room), unit=FLOAT32)
            least = without_label(margins(graph, bounds, its), its, torch.inf).amin(dim=1)
            found.append(least.nan_to_num(nan=-torch.inf, neginf=-torch.inf))  # where float32 might overflow
    return torch.cat(found) if found else radii
