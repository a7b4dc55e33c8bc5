"""APGD (Croce and Hein 2020): ascent with momentum that chooses each image's step size by that image's own progress."""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import gradient_by
from bpfc.attacks.balls import Ball, ball
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius
from bpfc.attacks.objectives import LOSSES, Losses
from bpfc.wrappers import logits_of

MOMENTUM = 0.25
"""The share of the last move in the next one (1 − α in the paper)."""
RISING = 0.75
"""Of the steps between two checkpoints, the share in which the loss must rise, or the step is halved (ρ)."""


@dataclass(frozen=True)
class APGD:
    """Steps of 2ε to begin with, halved where the loss stalls; there the ascent goes on from its best point.

    Iterate by iterate the authors' code from the same start, on one image; every decision is the image's alone. But in
    ℓ2, where a network is so sure that the gradient is shorter than 1e-12, theirs hardly moves, and this does.
    """

    eps: float
    steps: int
    loss: Literal["ce", "dlr"] = "ce"
    norm: Norm = "linf"
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps)
        check_count(steps=self.steps)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        inside = ball(self.norm, self.eps)
        start = inside.surface(images, rng)
        return auto_ascent(
            model, images, labels, start, ball=inside, steps=self.steps, losses=LOSSES[self.loss], watch=watch
        )


def auto_ascent(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    start: Tensor,
    *,
    ball: Ball,
    steps: int,
    losses: Losses,
    watch: Watch | None = None,
    room: int | None = None,
) -> Tensor:
    """`steps` steps of APGD from `start`; the last iterates of all images come back.

    What `watch` has done with leaves the batch at once. It has not seen the last iterates yet, because their logits
    would cost one more forward here. No forward is larger than `room`, if given.
    """
    active = torch.arange(len(images), device=images.device)
    ascent = _Ascent.begin(images, ball.project(images, start), 2 * ball.eps)
    perturbed = ascent.current.clone()
    checkpoints = _checkpoints(steps)
    for done in range(steps):
        gradient, values, logits = _gradient_and_values(
            model, ascent.current, targets[active], losses, room or len(images)
        )
        if watch is not None:
            going = ~watch(active, ascent.current, logits, done)
            if not going.any():
                return perturbed
            if not going.all():
                active, gradient, values = active[going], gradient[going], values[going]
                ascent = ascent.keep(going)
        ascent.arrive(gradient, values, first=done == 0)
        if done in checkpoints:
            ascent.check(checkpoints[done])
        ascent.step(ball, MOMENTUM if done else 0.0)
        perturbed[active] = ascent.current
    return perturbed


def _gradient_and_values(
    model: nn.Module, points: Tensor, targets: Tensor, losses: Losses, room: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the losses by the images alone, the losses, and the logits, by forwards of at most `room` images."""
    parts = []
    for some, towards in zip(points.split(room), targets.split(room), strict=True):
        with torch.enable_grad():
            leaf = some.detach().requires_grad_()
            logits = logits_of(model, leaf)
            values = losses(logits, towards)
            gradient = gradient_by(leaf, values.sum())
        parts.append((gradient, values.detach(), logits.detach()))
    gradients, every, all_logits = (torch.cat(column) for column in zip(*parts, strict=True))
    return gradients, every, all_logits


def _checkpoints(steps: int) -> dict[int, int]:
    """After which steps progress is checked, and over how many steps each time (the paper's section 3.1, as the
    authors' code rounds it)."""
    span, least, shorter = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, at = {}, span
    while at < steps:
        found[at] = span
        span = max(span - shorter, least)
        at += span
    return found


@dataclass
class _Ascent:
    """Where the images that are still at work stand, a row each."""

    images: Tensor
    current: Tensor
    previous: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    step_size: Tensor
    value: Tensor
    best_value: Tensor
    checked_value: Tensor
    rises: Tensor
    halved: Tensor

    @classmethod
    def begin(cls, images: Tensor, start: Tensor, step_size: float) -> Self:
        unknown, zeros = torch.empty_like(images), images.new_zeros(len(images), dtype=torch.float32)
        return cls(
            images,
            current=start,
            previous=start,
            gradient=unknown,
            best=start,
            best_gradient=unknown,
            step_size=images.new_full((len(images), 1, 1, 1), step_size),
            value=zeros,  # the loss after one step counts as risen where it is above 0, as in the authors' code
            best_value=zeros,
            checked_value=zeros,
            rises=zeros,
            halved=torch.ones_like(zeros, dtype=torch.bool),  # so that the first check asks for rises alone
        )

    def keep(self, rows: Tensor) -> Self:
        """The same of some of the images."""
        return type(self)(*(getattr(self, item.name)[rows] for item in fields(self)))

    def arrive(self, gradient: Tensor, values: Tensor, *, first: bool) -> None:
        """Takes the gradient and the loss at the current points."""
        self.gradient = gradient
        if first:
            self.best_gradient, self.best_value, self.checked_value = gradient, values, values
            return
        self.rises = self.rises + (values > self.value)
        better = values > self.best_value
        self.best_value = torch.where(better, values, self.best_value)
        self.best = torch.where(_wide(better), self.current, self.best)
        self.best_gradient = torch.where(_wide(better), gradient, self.best_gradient)
        self.value = values

    def check(self, span: int) -> None:
        """Halves the step, and goes back to the best point, where the loss rose too seldom in the last `span` steps, or
        where its best has stood still since the last check though the step was not halved then."""
        stalled = (self.rises <= RISING * span) | (~self.halved & (self.checked_value >= self.best_value))
        self.step_size = torch.where(_wide(stalled), self.step_size / 2, self.step_size)
        self.current = torch.where(_wide(stalled), self.best, self.current)
        self.gradient = torch.where(_wide(stalled), self.best_gradient, self.gradient)
        self.halved, self.checked_value, self.rises = stalled, self.best_value, torch.zeros_like(self.rises)

    def step(self, ball: Ball, momentum: float) -> None:
        """One step along the gradient and the last move."""
        uphill = ball.move(self.images, self.current, self.gradient, self.step_size)
        if momentum:
            blend = self.current + (1 - momentum) * (uphill - self.current) + momentum * (self.current - self.previous)
            uphill = ball.project(self.images, blend)
        self.previous, self.current = self.current, uphill


def _wide(rows: Tensor) -> Tensor:
    """A value for each image, in the shape of the images."""
    return rows.view(-1, 1, 1, 1)
