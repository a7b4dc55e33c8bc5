"""APGD at every class for a little, at a few for as long again, then for long at the one that it came nearest to, where
there is hope."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bpfc.attacks.apgd_targeted import TargetedAPGD, side_by_side
from bpfc.attacks.balls import ball
from bpfc.attacks.base import Rng, Watch, check_call
from bpfc.attacks.objectives import likeliest_others, margins

SHARE = 5
"""One in so many of the steps is taken at each class first."""
FINALISTS = 4
"""How many of the targets are left after half of that."""
STARTS = 3
"""From which it goes on to the nearest class."""
HOPE = 0.75
"""It goes on where at least this share of the clean image's margin is gone."""


@dataclass(frozen=True)
class NarrowingAPGD(TargetedAPGD):
    """`TargetedAPGD` for a fifth of the steps, the second half of them at the four targets that came nearest; then APGD
    from three other random starts at a single class: the one whose logit came nearest to the label's, over all iterates
    at all targets.

    Which class gives way can hardly be told at the clean image, where MALT's order is found, but soon after. So can
    which images stand: where less than three quarters of the margin are gone by then, no more steps are taken. (The A3
    of Liu et al. 2022 drops images without hope too.)
    """

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        if not len(images):
            return images.clone()
        first, nearest = max(self.steps // SHARE, 1), labels.clone()
        done = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        reached = images.new_full((len(images),), -torch.inf, dtype=torch.float32)
        clean: Tensor | None = None

        def observe(indices: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
            nonlocal clean
            now = margins(logits, labels[indices])
            clean = now if clean is None else clean  # all of them are shown as they are, before anything else
            nearer = now >= reached[indices]
            reached[indices[nearer]] = now[nearer]
            nearest[indices[nearer]] = likeliest_others(logits[nearer], labels[indices[nearer]])[:, 0]
            if watch is not None:
                done[indices] |= watch(indices, candidates, logits, step)
            return done[indices]

        everywhere = TargetedAPGD(self.eps, first, self.targets, self.norm, self.room)
        last = everywhere.ascend(model, images, labels, rng, observe, FINALISTS)
        assert clean is not None
        left = torch.nonzero(~done & (reached >= (1 - HOPE) * clean))[:, 0]
        if len(left):
            last[left] = side_by_side(
                model,
                images[left],
                labels[left],
                nearest[left, None].expand(-1, STARTS),
                rng[left],
                ball=ball(self.norm, self.eps),
                steps=self.steps,
                room=self.room or len(images),
                watch=lambda rows, some, logits, step: observe(left[rows], some, logits, first + step),
                draw=self.targets,
            )
        return last
