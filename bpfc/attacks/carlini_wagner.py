"""Carlini and Wagner's ℓ2 attack (2017): the nearest misclassified image, by weighing distance against margin."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import gradient_by
from bpfc.attacks.balls import L2Ball, finite
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count
from bpfc.attacks.minimum_norm import MinimumNorm, bisect
from bpfc.attacks.objectives import margins
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class CarliniWagner:
    """Adam on ‖x' − x‖² + c · max(−margin, 0), c found for each image by `searches` rounds of binary search.

    The box is kept by clipping after each step (their section 5, projected gradient descent) instead of by tanh,
    whose gradient vanishes at pixels that are 0 or 1. An image whose loss no longer falls ends its round, by itself.
    What is found is drawn back towards the image by bisection. Failures come back as NaN.
    """

    steps_each: int = 200
    searches: int = 9
    lr: float = 0.01
    first_c: float = 1.0
    norm: ClassVar[Norm] = "l2"
    eps: ClassVar[None] = None
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_count(steps=self.steps_each, searches=self.searches)

    @property
    def steps(self) -> int:
        return self.steps_each * self.searches

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        minimum = MinimumNorm(images, labels, L2Ball(1.0))
        going = torch.arange(len(images), device=images.device)
        low, high = images.new_zeros(len(images)), images.new_full((len(images),), torch.inf)
        c = images.new_full((len(images),), self.first_c)
        for search in range(self.searches):
            found = self._minimise(model, images, labels, c, minimum, watch, going, search * self.steps_each)
            high = torch.where(found, torch.minimum(high, c), high)
            low = torch.where(found, low, torch.maximum(low, c))
            c = torch.where(high.isfinite(), (low + high) / 2, c * 10)
        return bisect(model, minimum, watch, self.steps)

    def _minimise(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        c: Tensor,
        minimum: MinimumNorm,
        watch: Watch | None,
        going: Tensor,
        step: int,
    ) -> Tensor:
        """One round for each image at its c; which of them were misclassified on the way."""
        found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        active, current = going, images[going]
        first, second = torch.zeros_like(current), torch.zeros_like(current)
        before = torch.full((len(current),), torch.inf, device=images.device)
        for done in range(self.steps_each):
            with torch.enable_grad():
                points = current.detach().requires_grad_()
                logits = logits_of(model, points)
                distances = (points - images[active]).flatten(1).square().sum(dim=1)
                losses = distances + c[active] * (-margins(logits, labels[active])).clamp_min(0)
                gradient = gradient_by(points, losses.sum())
            gradient = finite(gradient)  # what is not would stay in the moments for good
            logits = logits.detach()
            found[active] |= minimum.take(active, current, logits)
            if watch is not None:
                watch(active, current, logits, step + done)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient.square()
            mean, variance = first / (1 - 0.9 ** (done + 1)), second / (1 - 0.999 ** (done + 1))
            current = (current - self.lr * mean / (variance.sqrt() + 1e-8)).clamp(0, 1)
            if (done + 1) % max(1, self.steps_each // 10) == 0:
                falling = losses.detach() < 0.9999 * before
                before = losses.detach()
                parts = (active, current, first, second, before)
                active, current, first, second, before = (part[falling] for part in parts)
                if not len(active):
                    break
        return found
