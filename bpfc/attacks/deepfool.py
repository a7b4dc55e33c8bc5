"""DeepFool (Moosavi-Dezfooli et al. 2016): the nearest misclassified image, by linearising the network."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.balls import ball
from bpfc.attacks.base import Norm, Rng, Watch, check_count
from bpfc.attacks.nearest import Nearest, bisect


@dataclass(frozen=True)
class DeepFool:
    """Step by step to the nearest decision boundary of the linearised network, a little beyond (`overshoot`).

    Pixels that the step would push out of the box do not count. What is found is drawn back towards the image by
    bisection. Failures come back as NaN.
    """

    norm: Norm = "l2"
    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 9
    """How many of the likeliest other classes are looked at."""
    eps: ClassVar[None] = None
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_count(steps=self.steps, candidates=self.candidates)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        nearest = Nearest(images, labels, ball(self.norm, 1.0))
        active = torch.arange(len(images), device=images.device)
        current = images
        for done in range(self.steps + 1):
            logits, move = self._move(model, current, labels[active])
            going = ~nearest.take(active, current, logits)
            if watch is not None:
                going &= ~watch(active, current, logits, done)
            active, current, move = active[going], current[going], move[going]
            if not len(active):
                break
            current = (current + (1 + self.overshoot) * move).clamp(0, 1)
        return bisect(model, nearest, watch, self.steps)

    def _move(self, model: nn.Module, current: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and the shortest way to the boundary of the linearised network within the box."""
        with torch.enable_grad():
            points = current.detach().requires_grad_()
            logits = model(points).float()
            others = logits.detach().scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True)
            classes = others[:, : min(self.candidates, logits.shape[1] - 1)]
            gaps = logits.gather(1, classes) - logits.gather(1, labels[:, None])
            slopes = [
                torch.autograd.grad(gaps[:, i].sum(), points, retain_graph=i + 1 < gaps.shape[1])[0]
                for i in range(gaps.shape[1])
            ]
        best = torch.full((len(current),), torch.inf, device=current.device)
        move = torch.zeros_like(current)
        for gap, slope in zip(gaps.detach().unbind(dim=1), slopes, strict=True):
            blocked = ((current <= 0) & (slope < 0)) | ((current >= 1) & (slope > 0))
            slope = slope.masked_fill(blocked, 0)
            wanted = gap.abs() + 1e-6
            if self.norm == "l2":
                dual = slope.flatten(1).norm(dim=1).clamp_min(1e-12)
                way = slope * (wanted / dual.square())[:, None, None, None]
            else:
                dual = slope.flatten(1).abs().sum(dim=1).clamp_min(1e-12)
                way = slope.sign() * (wanted / dual)[:, None, None, None]
            nearer = wanted / dual < best
            best = torch.where(nearer, wanted / dual, best)
            move = torch.where(nearer[:, None, None, None], way, move)
        return logits.detach(), move
