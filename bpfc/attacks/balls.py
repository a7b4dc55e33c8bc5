"""The ε-balls: a random point, a step uphill, and back inside ball and box.

Where a gradient is NaN, a step leaves the pixel alone, else the iterate would hold NaN from then on. To torch the sign
of NaN is 0.
"""

from dataclasses import dataclass
from math import pi
from typing import ClassVar

import torch
from torch import Tensor

from bpfc.attacks.base import Norm, Rng


@dataclass(frozen=True)
class LinfBall:
    """All images in [0, 1] of which no pixel differs by more than ε."""

    eps: float
    norm: ClassVar[Norm] = "linf"

    def random(self, images: Tensor, rng: Rng) -> Tensor:
        """U(−ε, ε) added to every pixel; not clipped to the box, as in the paper's scripts."""
        return images + self.eps * rng.uniform(images)

    def surface(self, images: Tensor, rng: Rng, draw: int = 0) -> Tensor:
        """As `random`, stretched until some pixel is ε away: where APGD starts. Not clipped to the box."""
        noise = rng.uniform(images, draw)
        return images + self.eps * noise / (self.distances(noise).view(-1, 1, 1, 1) + 1e-12)

    def move(self, images: Tensor, current: Tensor, gradient: Tensor, step_size: float | Tensor) -> Tensor:
        """One step of that length, or of each image's (N, 1, 1, 1), along the gradient's sign, projected."""
        return self.project(images, self.step(current, gradient, step_size))

    def step(self, current: Tensor, gradient: Tensor, step_size: float | Tensor) -> Tensor:
        """The same, not projected."""
        return current + step_size * gradient.sign()

    def distances(self, delta: Tensor) -> Tensor:
        """The norm of each difference (N, C, H, W), as (N,); NaN where it holds one."""
        return delta.flatten(1).abs().amax(dim=1)

    def project(self, images: Tensor, points: Tensor, radii: Tensor | None = None) -> Tensor:
        """To the ball, or to each image's of the radius (N, 1, 1, 1), and to the box."""
        reach = self.eps if radii is None else radii
        return torch.clamp(points, (images - reach).clamp_min(0), (images + reach).clamp_max(1))


@dataclass(frozen=True)
class L2Ball:
    """All images in [0, 1] whose difference has an ℓ2 norm of at most ε."""

    eps: float
    norm: ClassVar[Norm] = "l2"

    def random(self, images: Tensor, rng: Rng) -> Tensor:
        """Uniform in the ball: a normal direction (Box-Muller), a radius ε · u^(1/d)."""
        radius = ((rng.uniform(images[:, :1, :1, :1], 2) + 1) / 2) ** (1 / images[0].numel())
        return images + self.eps * radius * _direction(images, rng)

    def surface(self, images: Tensor, rng: Rng, draw: int = 0) -> Tensor:
        """Uniform on the sphere of radius ε: where APGD starts. Not clipped to the box."""
        return images + self.eps * _direction(images, rng, draw)

    def move(self, images: Tensor, current: Tensor, gradient: Tensor, step_size: float | Tensor) -> Tensor:
        """One step of that length, or of each image's (N, 1, 1, 1), along the gradient, projected.

        An infinite value counts as 0 too.
        """
        return self.project(images, self.step(current, gradient, step_size))

    def step(self, current: Tensor, gradient: Tensor, step_size: float | Tensor) -> Tensor:
        """The same, not projected."""
        return current + step_size * _unit(finite(gradient))

    def distances(self, delta: Tensor) -> Tensor:
        """The norm of each difference (N, C, H, W), as (N,); NaN where it holds one."""
        return delta.flatten(1).norm(dim=1)

    def project(self, images: Tensor, points: Tensor, radii: Tensor | None = None) -> Tensor:
        """To the ball (short of it by rounding's share), or to each image's of the radius (N, 1, 1, 1), then to the
        box, which takes no point out of the ball."""
        delta = points - images
        room = (self.eps if radii is None else radii) * (1 - 1e-5) / l2_norms(delta).clamp_min(1e-12)
        return (images + delta * room.clamp_max(1)).clamp(0, 1)


class Box:
    """All points between two bounds of each pixel: what a monotone layer makes of an ℓ∞ ball.

    The bounds (N, 2, C, H, W), lowest and highest, stand where the images stand for a ball, so that they leave the
    batch with their image.
    """

    def random(self, bounds: Tensor, rng: Rng, draw: int = 0) -> Tensor:
        """Uniform between the bounds."""
        lower, upper = bounds.unbind(dim=1)
        return self.project(bounds, torch.lerp(lower, upper, (rng.uniform(lower, draw) + 1) / 2))

    def move(self, bounds: Tensor, current: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """One step along the gradient's sign, that share of each pixel's width long, projected."""
        lower, upper = bounds.unbind(dim=1)
        return self.project(bounds, current + step_size * (upper - lower) * gradient.sign())

    def project(self, bounds: Tensor, points: Tensor) -> Tensor:
        lower, upper = bounds.unbind(dim=1)
        return points.clamp(lower, upper)


Ball = LinfBall | L2Ball


def ball(norm: Norm, eps: float) -> Ball:
    return LinfBall(eps) if norm == "linf" else L2Ball(eps)


def l2_norms(vectors: Tensor) -> Tensor:
    """The norm of each image's vector (N, C, H, W), as (N, 1, 1, 1)."""
    return vectors.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def finite(values: Tensor) -> Tensor:
    """The values, 0 where one is NaN or infinite."""
    return values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _unit(vectors: Tensor) -> Tensor:
    """Of length 1, however long they were; 0 where 0.

    In float32 there are no squares of what is below 1e-23 or above 1e19, and where a network is sure of an image the
    gradient of cross-entropy is as short as that.
    """
    largest = vectors.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1)
    scaled = vectors / largest.clamp_min(torch.finfo(vectors.dtype).tiny)
    return scaled / l2_norms(scaled).clamp_min(1e-12)


def _direction(images: Tensor, rng: Rng, draw: int = 0) -> Tensor:
    """A unit vector for each image, uniform on the sphere: a normal one (Box-Muller), stretched."""
    first, second = (1 - (rng.uniform(images, each) + 1) / 2 for each in (2 * draw, 2 * draw + 1))
    return _unit((-2 * first.clamp_min(1e-7).log()).sqrt() * (2 * pi * second).cos())
