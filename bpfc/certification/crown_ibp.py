"""Certificates by CROWN-IBP (Zhang et al. 2020): three forwards an image and one for each class."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bpfc.bounds import Graph, crown_margins
from bpfc.certification.base import Radius, least_margins


@dataclass(frozen=True)
class CrownIBP:
    """Mostly tighter than interval bounds, which tell it where the network bends."""

    name: ClassVar[str] = "crown-ibp"

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, eps: Radius) -> Tensor:
        return least_margins(model, images, labels, eps, crown_margins, _coefficients)


def _coefficients(graph: Graph) -> int:
    """Coefficients of a value and of the one before it, and what is made of them on the way."""
    return 8 * graph.classes * graph.widest
