"""Multi-targeted PGD (Gowal et al. 2019): one targeted run for each of the likeliest other classes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import projected_ascent
from bpfc.attacks.balls import ball
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius, in_turn
from bpfc.attacks.objectives import likeliest_others, towards
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class MultiTargeted:
    """PGD on z_target − z_label, target by target, the likeliest first, from one random start.

    With fewer classes than `targets` + 1, all other classes are targets. Steps are counted through the targets. Without
    `watch`, the iterates of the last target come back.
    """

    eps: float
    step_size: float
    steps_each: int
    targets: int = 9
    norm: Norm = "linf"
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps, step_size=self.step_size)
        check_count(steps=self.steps_each, targets=self.targets)

    @property
    def steps(self) -> int:
        return self.targets * self.steps_each

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        with torch.no_grad():
            logits = logits_of(model, images)
        others = likeliest_others(logits, labels)
        inside = ball(self.norm, self.eps)
        start = inside.random(images, rng)

        def towards_target(turn: int, left: Tensor, observe: Watch | None) -> Tensor:
            pairs = torch.stack([labels[left], others[left, turn]], dim=1)
            return projected_ascent(
                model,
                images[left],
                pairs,
                start[left],
                ball=inside,
                step_size=self.step_size,
                steps=self.steps_each,
                watch=observe,
                objective=towards,
            )

        turns = min(self.targets, others.shape[1])
        return in_turn(model, images, turns, self.steps_each, towards_target, watch, logits)
