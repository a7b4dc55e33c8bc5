"""APGD at every class for a little, then for long at the one class that it came nearest to."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.apgd import auto_ascent
from bpfc.attacks.apgd_targeted import TargetedAPGD
from bpfc.attacks.balls import ball
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius
from bpfc.attacks.objectives import likeliest_others, margins, targeted_dlrs

SHARE = 5
"""One in so many of the steps is taken at each class first."""


@dataclass(frozen=True)
class FocusedAPGD:
    """`TargetedAPGD` for a fifth of the steps, then APGD from another random start at a single class: the one whose
    logit came nearest to the label's, over all iterates at all targets.

    Which class gives way can hardly be told at the clean image, where MALT's order is found, but soon after.
    """

    eps: float
    steps: int
    targets: int = 9
    norm: Norm = "linf"
    room: int | None = field(default=None, repr=False, compare=False)
    """Images in the largest forward; as many as are attacked, unless given. No verdict depends on it."""
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps)
        check_count(steps=self.steps, targets=self.targets, room=self.room)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        first = max(self.steps // SHARE, 1)
        done = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        nearness = images.new_full((len(images),), -torch.inf, dtype=torch.float32)
        nearest = labels.clone()

        def observe(indices: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
            reached = margins(logits, labels[indices])
            nearer = reached >= nearness[indices]  # not so of NaN
            nearness[indices[nearer]] = reached[nearer]
            nearest[indices[nearer]] = likeliest_others(logits[nearer], labels[indices[nearer]])[:, 0]
            if watch is not None:
                done[indices] |= watch(indices, candidates, logits, step)
            return done[indices]

        everywhere = TargetedAPGD(self.eps, first, self.targets, self.norm, self.room)
        last = everywhere(model, images, labels, rng, observe)
        inside, left = ball(self.norm, self.eps), torch.nonzero(~done)[:, 0]
        if len(left):
            last[left] = auto_ascent(
                model,
                images[left],
                torch.stack([labels[left], nearest[left]], dim=1),
                inside.surface(images[left], rng[left], self.targets),
                ball=inside,
                steps=self.steps,
                losses=targeted_dlrs,
                watch=lambda rows, *seen: observe(left[rows], *seen),
                room=self.room,
            )
        return last
