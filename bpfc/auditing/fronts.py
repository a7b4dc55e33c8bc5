"""A layer in front that is monotone in each pixel: it makes a box of the ball, and attacks start behind it, on the box.

Where such a layer is flat its gradient is zero, so that attacks by x are blind. Behind it nothing is lost: it is
continuous, so that every point of the box is its answer to some image of the ball.
"""

import torch
from torch import Tensor, nn

from bpfc.auditing.layers import traffic
from bpfc.models.curve import Curve

LEVELS = 256
"""Steps from 0 to 1 at which a layer is looked at."""
PIXELS = 4096
"""How many of its pixels are looked at."""
HALVINGS = 24
"""Of an interval that holds a preimage: as many as float32 has digits."""


class AnyCurve(Curve):
    """A layer of somebody's that is known to be monotone in each pixel, and continuous."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.layer(images))

    def preimage(self, u: Tensor, images: Tensor, eps: float) -> Tensor:
        """By halving the interval [x − ε, x + ε], in which the layer's answers rise from below u to above it."""
        with torch.no_grad():
            lower, upper = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
            for _ in range(HALVINGS):
                middle = (lower + upper) / 2
                above = self(middle) >= u
                lower, upper = torch.where(above, lower, middle), torch.where(above, middle, upper)
            return upper.where(u != self(images), images)


class Replaced(nn.Module):
    """A model as a function of what one of its layers answers."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, answers: Tensor) -> Tensor:
        layer = self.model.get_submodule(self.layer)
        handle = layer.register_forward_hook(lambda module, arguments, output: answers)
        try:
            return torch.as_tensor(self.model(answers))
        finally:
            handle.remove()


def fronted(model: nn.Module, images: Tensor) -> tuple[str, nn.Sequential] | None:
    """The layer that takes the images as they are, for people, and the same model as nn.Sequential(curve, network).

    None where that layer is not monotone in each pixel, jumps, or is flat nowhere: then x is as good a place to attack.

    Args:
        model: deterministic, in eval mode.
        images: some of them, (N, C, H, W) in [0, 1].
    """
    with torch.no_grad():
        for name, (before, after) in traffic(model, images).items():
            layer = model.get_submodule(name)
            as_they_are = before.dtype == torch.float32 and before.shape == images.shape
            if not (name and as_they_are and torch.equal(before, images.float())):
                continue
            if after.shape != images.shape or not _by_pixel(layer, images) or not _flat_somewhere(layer, images[:1]):
                return None
            whole = nn.Sequential(AnyCurve(layer), Replaced(model, name)).eval()
            alike = torch.allclose(whole(images).float(), model(images).float(), rtol=1e-4, atol=1e-5)
            return (f"layer {name}, {type(layer).__name__}", whole) if alike else None
    return None


def _by_pixel(layer: nn.Module, images: Tensor) -> bool:
    """Whether a pixel of the answer follows from the same pixel of the image alone."""
    changed = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images) < 0.5
    other = layer(torch.where(changed, 1 - images, images))
    return bool((other == layer(images))[~changed].all())


def _flat_somewhere(layer: nn.Module, like: Tensor) -> bool:
    """Whether the answers never fall where a pixel rises, jump nowhere, and somewhere do not move."""

    def rises(low: float, high: float, count: int) -> Tensor:
        levels = torch.linspace(low, high, count + 1).tolist()
        return torch.stack([layer(torch.full_like(like, level)).flatten()[::stride] for level in levels]).diff(dim=0)

    stride = -(-like[0].numel() // PIXELS)
    found = rises(0.0, 1.0, LEVELS)
    if (found < 0).any() or not (found == 0).any() or not (found > 0).any():
        return False
    level, pixel = divmod(int(found.argmax()), found.shape[1])
    within = rises(level / LEVELS, (level + 1) / LEVELS, 16)[:, pixel]
    return bool(within.max() < 0.75 * found.max())  # at a jump, one small step has all of it
