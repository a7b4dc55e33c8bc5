"""Square (Andriushchenko et al. 2020): random search by squares of ±ε, no gradients, ℓ∞."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius
from bpfc.attacks.objectives import margins
from bpfc.wrappers import logits_of

HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, at which the share of changed pixels is halved (the paper's section 3.3)."""


@dataclass(frozen=True)
class Square:
    """Vertical stripes to begin with; then squares at random places, kept where the margin grows.

    `share` is the part of the pixels that the first squares cover.
    """

    eps: float
    queries: int
    share: float = 0.8
    norm: ClassVar[Norm] = "linf"
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(eps=self.eps, share=self.share)
        check_count(queries=self.queries)

    @property
    def steps(self) -> int:
        return self.queries

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        count, channels, height, width = images.shape
        active = torch.arange(count, device=images.device)
        stripes = rng.uniform(images[:, :, :1, :]).sign()
        current = (images + self.eps * stripes).clamp(0, 1)
        logits = logits_of(model, current)
        best = margins(logits, labels)
        perturbed = current.clone()
        numbers = images[:, :, :1, :1].new_zeros(count, channels + 2, 1, 1)
        rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
        shown = current
        for query in range(1, self.queries):
            if watch is not None:
                going = ~watch(active, shown, logits, query)
                if not going.any():
                    break
                active, current, best, numbers = (part[going] for part in (active, current, best, numbers))
            side = self._side(query, height, width)
            drawn = rng[active].uniform(numbers, query)
            top, left = (
                ((drawn[:, i] + 1) / 2 * (length - side + 1)).long().clamp(0, length - side)
                for i, length in enumerate((height, width))
            )
            inside_rows = (rows >= top[:, 0]) & (rows < top[:, 0] + side)
            inside_columns = (columns >= left[:, 0]) & (columns < left[:, 0] + side)
            square = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
            moved = (images[active] + self.eps * drawn[:, 2:].sign()).clamp(0, 1)
            shown = torch.where(square, moved, current)
            logits = logits_of(model, shown)
            values = margins(logits, labels[active])
            better = values > best
            best = torch.where(better, values, best)
            current = torch.where(better[:, None, None, None], shown, current)
            perturbed[active] = current
        else:
            if watch is not None:
                watch(active, shown, logits, self.queries)
        return perturbed

    def _side(self, query: int, height: int, width: int) -> int:
        """Of the square, in pixels, at that query."""
        passed = sum(query / self.queries * 10_000 > at for at in HALVINGS)
        side = round(sqrt(self.share / 2**passed * height * width))
        return max(1, min(side, height - 1, width - 1))
