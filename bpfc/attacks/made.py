"""Images that another network has been attacked with: a black box meets them in the loop of every evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.base import ImageRng, Norm, Rng, Watch


@dataclass(frozen=True, eq=False)
class Made:
    """Hands out images that are there already, whatever the model.

    Attributes:
        eps, norm, steps: of the attack that made them.
        images: each of shape (C, H, W), by the key of its random start in `ImageRng`.
    """

    eps: float | None
    norm: Norm
    steps: int | None
    images: Mapping[int, Tensor]
    forwards: ClassVar[None] = None

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        """Without a watch: there is one iterate."""
        assert isinstance(rng, ImageRng)
        return torch.stack([self.images[key] for key in rng.keys.tolist()])
