"""What every attack is, and the gradient ascent that the gradient-based ones share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Watch = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Called as watch(positions, candidates, logits, step) with the iterates after `step` steps of the images at
`positions`, and the logits that the attack has for them; gives back which of them need no further work (bool)."""


class Rng(Protocol):
    """Where an attack's random numbers come from."""

    def uniform(self, images: Tensor) -> Tensor:
        """U(−1, 1) of the shape, dtype and device of `images`."""
        ...


@dataclass(frozen=True)
class BatchRng:
    """Random numbers for training: torch's global generator, on the images' device."""

    def uniform(self, images: Tensor) -> Tensor:
        return torch.empty_like(images).uniform_(-1, 1)


@dataclass(frozen=True)
class ImageRng:
    """Random numbers that depend on the image, not on the batch it travels in: one stream per (seed, index, restart).

    Attributes:
        seed: of the whole evaluation.
        indices: of the images in their data set, one for each image of the batch.
        restart: 0 for the first run of an attack on these images.
    """

    seed: int
    indices: Sequence[int]
    restart: int = 0

    def uniform(self, images: Tensor) -> Tensor:
        """U(−1, 1) of the shape, dtype and device of `images`; the same numbers on every device."""
        if len(self.indices) != len(images):
            raise ValueError(f"{len(self.indices)} indices for {len(images)} images: must be one for each")
        generator = torch.Generator()
        noise = torch.empty(images.shape, dtype=images.dtype)
        for row, index in zip(noise, self.indices, strict=True):
            generator.manual_seed(_mix(self.seed, index, self.restart))
            row.uniform_(-1, 1, generator=generator)
        return noise.to(images.device)


class Attack(Protocol):
    """A frozen dataclass of hyper-parameters that turns images into perturbed images.

    It leaves the model as it found it (mode, `requires_grad`, `.grad`) and counts no successes: whoever calls it
    judges. `eps` is the ℓ∞ radius in units of [0, 1], `steps` how many steps make the last iterate.
    """

    @property
    def eps(self) -> float: ...
    @property
    def steps(self) -> int: ...

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        """Perturbed versions of float images (N, C, H, W) in [0, 1] with labels (N,).

        Without `watch` every image is worked on to the end and the last iterate comes back. With it, every iterate is
        shown, and an image of which `watch` says so is worked on no more.
        """
        ...


def check_radius(**values: float) -> None:
    """Raises ValueError unless every named value is a positive number of at most 1, the width of the box."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise ValueError(f"{name}={value!r}: must be above 0 and at most 1 (images are in [0, 1]; 8/255, not 8)")


Objective = Callable[[Tensor, Tensor], Tensor]
"""What an attack ascends: logits (N, classes) and targets (N, …) to the sum over the images, a scalar."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The usual objective, summed over the images: its gradient by one image does not depend on the others."""
    return F.cross_entropy(logits, labels, reduction="sum")


def input_gradient(
    model: nn.Module, images: Tensor, targets: Tensor, objective: Objective = cross_entropy
) -> tuple[Tensor, Tensor]:
    """Gradient of the objective by the images alone, and the logits, float32."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = model(images).float()
        (gradient,) = torch.autograd.grad(objective(logits, targets), images)
    return gradient, logits.detach()


def sign_ascent(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    start: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    watch: Watch | None = None,
    objective: Objective = cross_entropy,
) -> Tensor:
    """`steps` steps along the gradient's sign from `start`, each clipped to the ε-ball, then to the box [0, 1].

    What `watch` has done with leaves the batch at once, so that the rest is packed anew. The last iterate of all
    images comes back; `watch` has not seen it yet, because its logits would cost one more forward here.
    """
    active = torch.arange(len(images), device=images.device)
    lower, upper = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
    perturbed = torch.clamp(start, lower, upper)
    current = start
    for done in range(steps):
        gradient, logits = input_gradient(model, current, targets, objective)
        if watch is not None:
            going = ~watch(active, current, logits, done)
            if not going.any():
                return perturbed
            if not going.all():
                parts = (active, current, gradient, targets, lower, upper)
                active, current, gradient, targets, lower, upper = (part[going] for part in parts)
        current = torch.clamp(current + step * gradient.sign(), lower, upper)
        perturbed[active] = current
    return perturbed


def _mix(*numbers: int) -> int:
    """A 63-bit seed from several numbers (splitmix64's finaliser), so that neighbouring seeds share nothing."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return state >> 1
