"""DeepFool (Moosavi-Dezfooli et al. 2016): the nearest misclassified image, by linearising the network."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import gradient_by
from bpfc.attacks.balls import ball, finite
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count
from bpfc.attacks.minimum_norm import MinimumNorm, bisect
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class DeepFool:
    """Step by step to the nearest decision boundary of the linearised network, a little beyond (`overshoot`).

    Each step is the shortest that stays in the box. What is found is drawn back towards the image by bisection, and
    `refinements` times the network is linearised there once more and the image projected onto that boundary (the
    backward step of Croce and Hein's FAB, 2020). Failures come back as NaN.
    """

    norm: Norm = "l2"
    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 9
    """How many of the likeliest other classes are looked at."""
    refinements: int = 10
    eps: ClassVar[None] = None
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_count(steps=self.steps, candidates=self.candidates)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        minimum = MinimumNorm(images, labels, ball(self.norm, 1.0))
        active = torch.arange(len(images), device=images.device)
        current = images
        for done in range(self.steps + 1):
            logits, gaps, slopes = _linearise(model, current, labels[active], self.candidates)
            going = ~minimum.take(active, current, logits)
            if watch is not None:
                going &= ~watch(active, current, logits, done)
            active, current, gaps, slopes = active[going], current[going], gaps[:, going], slopes[:, going]
            if not len(active):
                break
            moves = torch.stack(
                [shortest(current, w, 1e-6 - gap, self.norm) for gap, w in zip(gaps, slopes, strict=True)]
            )
            lengths = torch.stack([minimum.ball.distances(move) for move in moves])
            lengths[(slopes == 0).flatten(2).all(dim=2)] = torch.inf  # no move leads to that class
            move = moves[lengths.argmin(dim=0), torch.arange(len(current), device=images.device)]
            current = (current + (1 + self.overshoot) * move).clamp(0, 1)
        bisect(model, minimum, watch, self.steps)
        found = torch.nonzero(minimum.distances.isfinite())[:, 0]
        for _ in range(self.refinements if len(found) else 0):
            originals, way = images[found], minimum.points[found] - images[found]
            logits, gaps, slopes = _linearise(model, minimum.points[found], labels[found], 1)
            if watch is not None:
                watch(found, minimum.points[found], logits, self.steps)
            wanted = (slopes[0] * way).flatten(1).sum(dim=1) - gaps[0]
            straight = shortest(originals, slopes[0], wanted + 1e-6, self.norm)
            for share in (1.0, 0.5, 0.2):
                mixed = share * straight + (1 - share) * way
                candidates = (originals + (1 + self.overshoot) * mixed).clamp(0, 1)
                with torch.no_grad():
                    logits = logits_of(model, candidates)
                minimum.take(found, candidates, logits)
                if watch is not None:
                    watch(found, candidates, logits, self.steps)
            bisect(model, minimum, watch, self.steps, halvings=5)
        return minimum.points


def _linearise(model: nn.Module, points: Tensor, labels: Tensor, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K); for each of the likeliest other classes the gap z_class − z_label, (C, N), and its gradient."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        logits = logits_of(model, points)
        others = logits.detach().scatter(1, labels[:, None], -torch.inf)
        classes = others.topk(min(candidates, logits.shape[1] - 1), dim=1).indices
        gaps = (logits.gather(1, classes) - logits.gather(1, labels[:, None])).T
        slopes = [gradient_by(points, gap.sum(), retain_graph=i + 1 < len(gaps)) for i, gap in enumerate(gaps)]
    return logits.detach(), gaps.detach(), finite(torch.stack(slopes))


def shortest(points: Tensor, slope: Tensor, wanted: Tensor, norm: Norm, passes: int = 5) -> Tensor:
    """The shortest move d with slope · d = wanted (N,) that keeps points + d in the box, in the ℓ2 or ℓ∞ norm.

    What a pixel at the wall cannot give is shared among the others, in a few passes. Where the box holds no such move,
    as far as it goes.
    """
    towards = slope * wanted.sign()[:, None, None, None]
    room = torch.where(towards > 0, 1 - points, points)
    share = towards.abs() if norm == "l2" else (towards != 0).to(points.dtype)
    free = torch.ones_like(share, dtype=torch.bool)
    length = torch.zeros_like(share)
    for _ in range(passes):
        given = (towards.abs() * length).masked_fill(free, 0).flatten(1).sum(dim=1)
        per_unit = (towards.abs() * share).masked_fill(~free, 0).flatten(1).sum(dim=1)
        unit = ((wanted.abs() - given) / per_unit.clamp_min(1e-12)).clamp_min(0)[:, None, None, None]
        length = torch.where(free, unit * share, room).clamp(max=room)
        free &= unit * share < room
    return towards.sign() * length
