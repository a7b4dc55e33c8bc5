"""PGD behind a tone curve: on the box that the curve makes of the ball, where no gradient is lost to its flat parts."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import projected_ascent
from bpfc.attacks.balls import Box
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius, in_turn
from bpfc.attacks.objectives import OBJECTIVES, Objective, ObjectiveName, likeliest_others, towards
from bpfc.models.curve import behind


@dataclass(frozen=True)
class Behind:
    """Projected gradient ascent by the curve's answers, one objective after the other, each from a start of its own.

    The objectives are the losses, then z_target − z_label for each of the likeliest other classes, the likeliest first.
    Each iterate u is shown as the nearest image in the ball that the curve answers with u, so that it is judged like
    any other attack's. Steps are counted through the objectives. Without `watch`, the iterates of the last come back.
    """

    eps: float
    """ℓ∞ radius before the curve, in units of [0, 1]."""
    steps_each: int = 50
    """Steps an objective."""
    step_size: float = 1.0
    """Length of the first step, as a share of the box's width at each pixel; the steps shrink evenly towards 0. From
    wall to wall to begin with, half as many images of an IBP network escape as with steps of one length."""
    losses: tuple[ObjectiveName, ...] = ("ce", "margin")
    """Objectives that name no target."""
    targets: int = 9
    """How many other classes are aimed at; all, where there are fewer. May be 0."""
    norm: ClassVar[Norm] = "linf"
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(eps=self.eps, step_size=self.step_size)
        check_count(steps_each=self.steps_each)
        if self.targets < 0 or (not self.losses and not self.targets):
            raise ValueError(f"losses={self.losses!r}, targets={self.targets!r}: must be one objective or more")

    @property
    def steps(self) -> int:
        return (len(self.losses) + self.targets) * self.steps_each

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        """Raises ValueError if the model has no tone curve in front."""
        check_call(model, images, rng)
        found = behind(model)
        if found is None:
            raise ValueError(
                f"{type(model).__name__}: has no tone curve in front; this attack needs a model of the form "
                "nn.Sequential(ToneCurve(a, b), network), any other is attacked in x (pgd-100, apgd-100)"
            )
        curve, network = found
        with torch.no_grad():
            logits = network(curve(images)).float()
            bounds = torch.stack(curve.image(images, self.eps), dim=1)
        others = likeliest_others(logits, labels)

        def objective(turn: int) -> tuple[Objective, Tensor]:
            if turn < len(self.losses):
                return OBJECTIVES[self.losses[turn]], labels
            return towards, torch.stack([labels, others[:, turn - len(self.losses)]], dim=1)

        def run(turn: int, left: Tensor, observe: Watch | None) -> Tensor:
            target_objective, goals = objective(turn)

            def observe_images(at: Tensor, points: Tensor, logits: Tensor, step: int) -> Tensor:
                assert observe is not None
                return observe(at, curve.preimage(points, images[left[at]], self.eps), logits, step)

            points = projected_ascent(
                network,
                bounds[left],
                goals[left],
                Box().random(bounds[left], rng[left], turn),
                ball=Box(),
                step_size=self.step_size,
                steps=self.steps_each,
                decaying=True,
                watch=observe_images if observe else None,
                objective=target_objective,
            )
            return curve.preimage(points, images[left], self.eps)

        turns = len(self.losses) + min(self.targets, others.shape[1])
        return in_turn(model, images, turns, self.steps_each, run, watch, logits)
