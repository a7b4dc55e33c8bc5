"""What the attacks without a radius share: the nearest misclassified image so far, and drawing it nearer."""

import torch
from torch import Tensor, nn

from bpfc.attacks.balls import Ball
from bpfc.attacks.base import Watch
from bpfc.wrappers import logits_of


class MinimumNorm:
    """For each image the nearest version that is misclassified; NaN where there is none, so that no failure passes
    for an image."""

    def __init__(self, images: Tensor, labels: Tensor, ball: Ball) -> None:
        self.images, self.labels, self.ball = images, labels, ball
        self.points = torch.full_like(images, torch.nan)
        self.distances = torch.full((len(images),), torch.inf, device=images.device)

    def take(self, positions: Tensor, candidates: Tensor, logits: Tensor) -> Tensor:
        """Keeps what is misclassified and nearer than before; gives back which candidates are misclassified."""
        wrong = logits.argmax(dim=1) != self.labels[positions]
        distances = self.ball.distances(candidates - self.images[positions])
        better = wrong & (distances < self.distances[positions])
        self.points[positions[better]] = candidates[better]
        self.distances[positions[better]] = distances[better]
        return wrong


@torch.no_grad()
def bisect(model: nn.Module, minimum: MinimumNorm, watch: Watch | None, step: int, halvings: int = 10) -> Tensor:
    """Draws what was found towards its image while it stays misclassified, along the straight line; gives back the
    points. Shown to `watch` as after `step` steps."""
    found = torch.nonzero(minimum.distances.isfinite())[:, 0]
    images, far = minimum.images[found], minimum.points[found]
    low, high = torch.zeros_like(minimum.distances[found]), torch.ones_like(minimum.distances[found])
    for _ in range(halvings if len(found) else 0):
        middle = (low + high) / 2
        candidates = images + middle[:, None, None, None] * (far - images)
        logits = logits_of(model, candidates)
        wrong = minimum.take(found, candidates, logits)
        if watch is not None:
            watch(found, candidates, logits, step)
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return minimum.points
