"""SPSA (Uesato et al. 2018): gradient ascent without gradients, from the margin at random pairs of near points."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bpfc.attacks.balls import ball, finite
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius
from bpfc.attacks.objectives import margins
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class SPSA:
    """Adam on the estimate mean over pairs of [ (m(x + δv) − m(x − δv)) / 2δ · v ], v random signs, m the margin.

    Projected to the ε-ball and the box after each step.
    """

    eps: float
    steps: int
    pairs: int = 64
    delta: float = 0.01
    lr: float = 0.01
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps)
        check_radius(delta=self.delta, lr=self.lr)
        check_count(steps=self.steps, pairs=self.pairs)

    @property
    def forwards(self) -> int:
        return 2 * self.pairs + 1

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        inside = ball(self.norm, self.eps)
        active = torch.arange(len(images), device=images.device)
        perturbed = images.clone()
        current, first, second = images, torch.zeros_like(images), torch.zeros_like(images)
        for done in range(self.steps):
            if watch is not None:
                going = ~watch(active, current, logits_of(model, current), done)
                active, current, first, second = (part[going] for part in (active, current, first, second))
                if not len(active):
                    break
            gradient = self._estimate(model, current, labels[active], rng[active], done, room=len(images))
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient.square()
            mean, variance = first / (1 - 0.9 ** (done + 1)), second / (1 - 0.999 ** (done + 1))
            current = inside.project(images[active], current + self.lr * mean / (variance.sqrt() + 1e-8))
            perturbed[active] = current
        return perturbed

    def _estimate(self, model: nn.Module, current: Tensor, labels: Tensor, rng: Rng, done: int, *, room: int) -> Tensor:
        """The estimate, by forwards of at most `room` images, as many pairs in each as fit.

        Pairs without a finite difference add nothing: the box may be left here, where a model need not answer.
        """
        total = torch.zeros_like(current)
        at_once = max(1, room // (2 * len(current)))
        for begin in range(0, self.pairs, at_once):
            draws = range(done * self.pairs + begin, done * self.pairs + min(begin + at_once, self.pairs))
            signs = torch.stack([rng.uniform(current, draw).sign() for draw in draws])
            near = torch.cat([current + self.delta * signs, current - self.delta * signs]).flatten(0, 1)
            logits = torch.cat([logits_of(model, part) for part in near.split(room)])
            values = margins(logits, labels.repeat(2 * len(draws))).view(2, len(draws), -1, 1, 1, 1)
            total += (finite((values[0] - values[1]) / (2 * self.delta)) * signs).sum(dim=0)
        return total / self.pairs
