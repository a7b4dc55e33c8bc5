"""Gradient ascent in a ball: the loop that the gradient-based attacks share, and where their speed comes from."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bpfc.attacks.balls import Ball, Box
from bpfc.attacks.base import Watch
from bpfc.attacks.objectives import Objective, cross_entropy
from bpfc.wrappers import is_random, logits_of

GradientOf = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Called as gradient_of(current, positions): the direction of ascent from the iterates of the images at `positions`,
and the logits there."""


def input_gradient(
    model: nn.Module, images: Tensor, targets: Tensor, objective: Objective = cross_entropy
) -> tuple[Tensor, Tensor]:
    """Gradient of the objective by the images alone, and the logits, float32.

    Raises:
        ValueError: no gradient comes through the model: no_grad, detach or whole numbers on the way.
    """
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = logits_of(model, images)
        gradient = gradient_by(images, objective(logits, targets))
    return gradient, logits.detach()


def gradient_by(images: Tensor, value: Tensor, *, retain_graph: bool = False) -> Tensor:
    """Gradient of a sum over the images, by the images alone.

    Raises:
        ValueError: the value does not depend on the images, for autograd, or nothing does: in torch.inference_mode().
    """
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, images, retain_graph=retain_graph, allow_unused=True)
    if gradient is None:
        if torch.is_inference_mode_enabled():
            raise ValueError("called inside torch.inference_mode(), where nothing has a gradient; call it outside")
        raise ValueError(
            "the model lets no gradient through (no_grad, detach or whole numbers on the way), so that attacks by "
            "gradients cannot work: attack it without (noise-100, square-5000, spsa-100), or wrap the layer in "
            "bpfc.BPDA"
        )
    return gradient


def projected_ascent(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    start: Tensor,
    *,
    ball: Ball | Box,
    step_size: float,
    steps: int,
    decaying: bool = False,
    watch: Watch | None = None,
    objective: Objective = cross_entropy,
) -> Tensor:
    """`projected_ascent_along`, along the gradient of an objective of the model's logits."""

    def gradient_of(current: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return input_gradient(model, current, targets[positions], objective)

    return projected_ascent_along(
        gradient_of,
        images,
        start,
        ball=ball,
        step_size=step_size,
        steps=steps,
        decaying=decaying,
        watch=watch,
        repeatable=not is_random(model),
    )


def projected_ascent_along(
    gradient_of: GradientOf,
    images: Tensor,
    start: Tensor,
    *,
    ball: Ball | Box,
    step_size: float,
    steps: int,
    decaying: bool = False,
    watch: Watch | None = None,
    repeatable: bool = True,
) -> Tensor:
    """`steps` projected steps uphill from `start`; the last iterates of all images come back.

    For a Box, `images` are its bounds. Where `decaying`, the steps shrink evenly from `step_size` towards 0.

    What `watch` has done with leaves the batch at once, so that the rest is packed anew; it has not seen the last
    iterates yet, because their logits would cost one more forward here.

    Where the step is a function of the iterate (`repeatable`: nothing random in it, no memory of earlier steps), an
    image whose iterate comes back to an earlier one goes round in that cycle for good. Such an image leaves too, with
    the iterate that it will have after `steps` steps: the same outcome for less.
    """
    active = torch.arange(len(images), device=images.device)
    perturbed = ball.project(images, start)
    originals, current = images, start
    cycles = CycleDetector(steps, len(images), images.device)
    for done in range(steps):
        gradient, logits = gradient_of(current, active)
        if watch is not None:
            going = ~watch(active, current, logits, done)
            if not going.any():
                return perturbed
            if not going.all():
                active, current, gradient, originals = (x[going] for x in (active, current, gradient, originals))
                cycles.keep(going)
        current = ball.move(originals, current, gradient, step_size * (1 - done / steps) if decaying else step_size)
        perturbed[active] = current
        if repeatable and not decaying and cycles.closed(current, done + 1):
            going = cycles.ends > done + 1
            if not going.any():
                return perturbed
            active, current, originals = (x[going] for x in (active, current, originals))
            cycles.keep(going)
    return perturbed


class CycleDetector:
    """Finds the images whose iterates repeat, to the bit, by comparing each iterate with two earlier ones of its own.

    The near one is renewed every few steps, so that a short cycle is found soon after it has begun. The far one is
    renewed ever more seldom (Brent's way), so that a cycle of any length is found.

    Attributes:
        ends: for each image still at work, after how many steps it has the iterate that it ends with.
    """

    FIRST = 48
    """Steps before anything is compared: cycles begin later, and adversarial training ends sooner."""
    NEAR = 16
    """Steps for which the near iterate stays, and the far one at least; few cycles are longer."""

    def __init__(self, steps: int, count: int, device: torch.device) -> None:
        self.steps = steps
        self.ends = torch.full((count,), steps, device=device)
        self.earlier: list[Tensor] = []  # near, far
        self.taken: list[int] = []

    def closed(self, current: Tensor, done: int) -> bool:
        """Takes the iterates after `done` steps; whether any image has its last iterate now."""
        if done < self.FIRST or done == self.steps:
            return False
        if not self.earlier:
            self.earlier, self.taken = [current, current], [done, done]
            return False
        for place, stays in enumerate((self.NEAR, max(self.NEAR, self.taken[1] // 4))):
            again = (current == self.earlier[place]).flatten(1).all(dim=1) & (self.ends == self.steps)
            self.ends[again] = done + (self.steps - done) % (done - self.taken[place])
            if done >= self.taken[place] + stays:
                self.earlier[place], self.taken[place] = current, done
        return bool((self.ends == done).any())

    def keep(self, rows: Tensor) -> None:
        """Forgets the images that are done with."""
        self.ends = self.ends[rows]
        self.earlier = [earlier[rows] for earlier in self.earlier]
