"""A tone curve in front of a network: a coarse look at the image without rounding, and the ball that lies behind it."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Curve(nn.Module, ABC):
    """A layer that is monotone in each pixel and continuous: it takes a ball in ℓ∞ exactly onto a box."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1] of any shape to answers of the same shape."""

    def image(self, images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """The box [u(x − ε), u(x + ε)]: the curve's answers to the images in [0, 1] at most ε away in each pixel.

        Both ends are reached, and every point between them is the answer to some such image. In floating point too the
        curve is monotone, so that no answer to an image between max(x − ε, 0) and min(x + ε, 1) is outside.
        """
        return self((images - eps).clamp_min(0)), self((images + eps).clamp_max(1))

    @abstractmethod
    def preimage(self, u: Tensor, images: Tensor, eps: float) -> Tensor:
        """For points u of the box `image(images, eps)`, an image that the curve answers with u, to rounding.

        It lies in [0, 1], and no pixel differs from `images` by more than ε; where u is the image's own answer, it is
        the image itself.
        """


class ToneCurve(Curve):
    """u = clamp((x − a) / (b − a), 0, 1) for each pixel, before the network: nn.Sequential(ToneCurve(a, b), network).

    What is darker than a is black, what is lighter than b is white. An attacker of radius ε cannot move a pixel that is
    black by more than ε, and where the curve is flat the gradient by x is zero; so attacks through it look weaker than
    they are. But the curve is monotone in each pixel: it takes the ball around an image exactly onto a box, with bounds
    for each pixel, and attacks and proofs can start behind it, from that box.
    """

    def __init__(self, a: float, b: float) -> None:
        """0 ≤ a < b ≤ 1; raises ValueError otherwise."""
        super().__init__()
        if not 0 <= a < b <= 1:
            raise ValueError(f"tone curve from a={a!r} to b={b!r}: must be 0 ≤ a < b ≤ 1, such as 0.3 and 0.7")
        self.a, self.b = a, b

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1] of any shape to images in [0, 1] of the same shape."""
        return ((images - self.a) / (self.b - self.a)).clamp(0, 1)

    def preimage(self, u: Tensor, images: Tensor, eps: float) -> Tensor:
        """The nearest such image."""
        lower, upper = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
        # a + u (b − a) is the point of the slope, or the end of the flat part that is nearer to it.
        moved = (self.a + u * (self.b - self.a)).clamp(lower, upper)
        return moved.where(u != self(images), images)

    def extra_repr(self) -> str:
        return f"a={self.a}, b={self.b}"


def behind(model: nn.Module) -> tuple[Curve, nn.Module] | None:
    """The curve in front of a model and what stands behind it; None for a model without one.

    In front means that it is the first module of an nn.Sequential: model(x) = network(curve(x)).
    """
    if not isinstance(model, nn.Sequential) or len(model) < 2 or not isinstance(model[0], Curve):
        return None
    return model[0], model[1] if len(model) == 2 else model[1:]


def with_curve(network: nn.Module, a: float, b: float) -> nn.Sequential:
    """The network with a tone curve in front."""
    return nn.Sequential(ToneCurve(a, b), network)


def ends(text: str) -> tuple[float, float]:
    """a and b of a curve as a network's name has them: 0.3-0.7. Raises ValueError if they are not two numbers."""
    try:
        a, b = (float(part) for part in text.split("-"))
    except ValueError as error:
        meant = "m-lenet@0.3-0.7 or m-lenet@learned-0.3-0.7"
        raise ValueError(f"tone curve {text!r}: must be two numbers, as in {meant}") from error
    return a, b
