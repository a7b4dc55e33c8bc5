"""The attacker who knows the regulariser (the paper's adaptive attacks): PGD that also climbs or descends it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import gradient_by, projected_ascent_along
from bpfc.attacks.balls import LinfBall
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius, in_turn
from bpfc.attacks.objectives import cross_entropy
from bpfc.bitplanes import quantize
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class Adaptive:
    """PGD on cross-entropy + m · ‖g(x') − g(q(x'))‖², once for each m in `weights`, from q(x) drawn into the ε-ball.

    q's noise is drawn anew for every gradient, `samples` times, and the gradient passes through q as through the
    identity, because q's own is zero almost everywhere. m > 0 looks for points where the network's answers to an image
    and its coarse version part; m < 0 for adversaries that the regulariser does not see.
    """

    eps: float
    step_size: float
    steps_each: int
    k: int
    weights: tuple[float, ...] = (0.0, 1.0, -1.0)
    samples: int = 1
    norm: ClassVar[Norm] = "linf"

    def __post_init__(self) -> None:
        check_radius(eps=self.eps, step_size=self.step_size)
        check_count(steps=self.steps_each, samples=self.samples)
        quantize(torch.zeros(1), self.k, noise=False)  # raises on a wrong k

    @property
    def steps(self) -> int:
        return len(self.weights) * self.steps_each

    @property
    def forwards(self) -> int:
        return 1 + self.samples

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        inside = LinfBall(self.eps)

        def with_weight(turn: int, left: Tensor, observe: Watch | None) -> Tensor:
            draw = turn * (self.steps_each * self.samples + 1)

            def gradient_of(current: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
                nonlocal draw
                at = left[positions]
                with torch.enable_grad():
                    points = current.detach().requires_grad_()
                    logits = logits_of(model, points)
                    objective = cross_entropy(logits, labels[at])
                    for _ in range(self.samples if self.weights[turn] else 0):
                        draw += 1
                        coarse = quantize(current.clamp(0, 1), self.k, noise=rng[at].uniform(current, draw))
                        distance = (logits - logits_of(model, points + (coarse - current))).square().sum()
                        objective = objective + self.weights[turn] / self.samples * distance
                    gradient = gradient_by(points, objective)
                return gradient, logits.detach()

            start = quantize(images[left], self.k, noise=rng[left].uniform(images[left], draw))
            return projected_ascent_along(
                gradient_of,
                images[left],
                inside.project(images[left], start),
                ball=inside,
                step_size=self.step_size,
                steps=self.steps_each,
                watch=observe,
                repeatable=False,
            )

        return in_turn(model, images, len(self.weights), self.steps_each, with_weight, watch)
