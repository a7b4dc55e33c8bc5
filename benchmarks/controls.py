"""Defences that hide gradients and withstand nothing, and what an attacker who knows each one differentiates.

The audit's tests and its confusion table (confusion.py) share them. Each is written as such defences are published; the
papers that broke them are Athalye et al. 2018, and Tramèr et al. 2020 for k-winners-take-all. Where a class has a
function `known`, it is the layer as the attacker writes it: the same forward, and a gradient that leads somewhere.
"""

import copy
from collections.abc import Callable
from math import cos, pi, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import median_filter
from torch import Tensor, nn

from bpfc.models.sparse import make_sparse
from bpfc.wrappers import BPDA

# In front of the network


class BitDepth(nn.Module):
    """Eight values a pixel (feature squeezing, Xu et al. 2018). Its gradient is zero."""

    def forward(self, images: Tensor) -> Tensor:
        return (images * 7).round() / 7

    def known(self) -> nn.Module:
        return BPDA(self)


class MedianFilter(nn.Module):
    """The median of 3 × 3 pixels, by SciPy (feature squeezing): no gradient comes through."""

    def forward(self, images: Tensor) -> Tensor:
        filtered = median_filter(images.detach().cpu().numpy(), size=(1, 1, 3, 3), mode="nearest")
        return torch.from_numpy(np.ascontiguousarray(filtered)).to(images)

    def known(self) -> nn.Module:
        return BPDA(self, _median)


def _median(images: Tensor) -> Tensor:
    """The same by torch, which passes the gradient to the pixel in the middle."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    return windows.median(dim=4).values


class BlockCosine(nn.Module):
    """JPEG's idea: each block of 7 × 7 pixels in a cosine basis, rounded to multiples of `step` there, and back."""

    basis: Tensor

    def __init__(self, side: int = 7, step: float = 0.4) -> None:
        super().__init__()
        self.side, self.step = side, step
        rows = [[cos(pi * (2 * j + 1) * i / (2 * side)) * sqrt((1 + (i > 0)) / side) for j in range(side)]
                for i in range(side)]  # fmt: skip
        self.register_buffer("basis", torch.tensor(rows), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        blocks = images.view(count, channels, height // self.side, self.side, width // self.side, self.side)
        blocks = blocks.transpose(3, 4)
        coefficients = self.basis @ blocks @ self.basis.T
        rounded = (coefficients / self.step).round() * self.step
        return (self.basis.T @ rounded @ self.basis).transpose(3, 4).reshape(images.shape)

    def known(self) -> nn.Module:
        return BPDA(self)


class Thermometer(nn.Module):
    """A pixel as `levels` flags, each on from its threshold up (Buckman et al. 2018). Its gradient is zero."""

    def __init__(self, levels: int = 8) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, images: Tensor) -> Tensor:
        return self._above(images).sign().clamp_min(0)

    def known(self) -> nn.Module:
        return BPDA(self, lambda images: (self._above(images) * self.levels + 0.5).clamp(0, 1))

    def _above(self, images: Tensor) -> Tensor:
        """How far each pixel lies above each threshold: (N, levels · C, H, W)."""
        thresholds = (torch.arange(self.levels, device=images.device) + 0.5) / self.levels
        return (images.unsqueeze(1) - thresholds.view(-1, 1, 1, 1)).flatten(1, 2)


class RandomNoise(nn.Module):
    """Gaussian noise on the pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images + 0.5 * torch.randn_like(images)


class RandomResize(nn.Module):
    """The image at a random smaller size, at a random place on black (Xie et al. 2018)."""

    def forward(self, images: Tensor) -> Tensor:
        whole = images.shape[-1]
        size = int(torch.randint(whole - 6, whole + 1, ()))
        small = F.interpolate(images, size=(size, size), mode="nearest")
        left, top = (int(torch.randint(0, whole - size + 1, ())) for _ in range(2))
        return F.pad(small, (left, whole - size - left, top, whole - size - top))


class Misled(nn.Module):
    """The gradient is right at images as they are stored, and points the other way anywhere else."""

    def forward(self, images: Tensor) -> Tensor:
        stored = ((images * 255 - (images * 255).round()).abs() < 1e-3).flatten(1).all(dim=1).view(-1, 1, 1, 1)
        way = torch.where(stored, 1.0, -1.0)
        return images.detach() + way * (images - images.detach())


# Within it


class ActivationPruning(nn.Module):
    """Keeps activations at random, the larger the likelier, and scales them up (Dhillon et al. 2018).

    A tenth as many draws as there are activations; whether one is kept is drawn for each alone, with the paper's
    probability.
    """

    def forward(self, values: Tensor) -> Tensor:
        flat = values.detach().flatten(1).abs()
        share = flat / flat.sum(dim=1, keepdim=True).clamp_min(1e-12)
        kept = 1 - (1 - share) ** (0.1 * flat.shape[1])
        mask = torch.where(torch.rand_like(kept) < kept, 1 / kept.clamp_min(1e-12), 0)
        return values * mask.view_as(values)


class KWinners(nn.Module):
    """The largest twentieth of a layer's values passes, the rest is zero (Xiao et al. 2020): jumps everywhere."""

    def forward(self, values: Tensor) -> Tensor:
        flat = values.flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 20), dim=1).values[:, -1:]
        return torch.where(flat >= least, flat, 0).view_as(values)


# Behind it


class Times(nn.Module):
    """Logits so large that the softmax of cross-entropy is 0 or 1 in float32."""

    def forward(self, logits: Tensor) -> Tensor:
        return 1000 * logits


class NoGradient(nn.Module):
    """A model whose code records no gradients."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class Rounded(nn.Module):
    """BitDepth in front, but in the model's own code, where no layer stands for it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * 7).round() / 7)


class Detector(nn.Module):
    """Rejects, as one more class, what the network answers otherwise when it is squeezed (Xu et al. 2018)."""

    def __init__(self, network: nn.Module, squeeze: nn.Module, limit: float = 0.5) -> None:
        super().__init__()
        self.network, self.squeeze, self.limit = network, squeeze, limit

    def forward(self, images: Tensor) -> Tensor:
        logits, squeezed = self.network(images), self.network(self.squeeze(images))
        apart = (logits.softmax(dim=1) - squeezed.softmax(dim=1)).abs().sum(dim=1, keepdim=True)
        return torch.cat([logits, logits.amax(dim=1, keepdim=True) + 10 * (apart - self.limit)], dim=1)


# Networks to be trained, by the names that recipes give them


def with_activation(network: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """A copy on the same weights, with another activation in place of each ReLU."""
    changed = copy.deepcopy(network, {id(each): each for each in network.parameters()})
    for name, layer in network.named_modules():
        if isinstance(layer, nn.ReLU):
            changed.set_submodule(name, make())
    return changed


def small(channels: int, classes: int, size: int) -> nn.Sequential:
    """Two strided convolutions and two linear layers: a quarter of the cost of M-LeNet at a quarter of its width."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (size // 4) ** 2, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def gelu(channels: int, classes: int, size: int) -> nn.Module:
    return with_activation(small(channels, classes, size), nn.GELU)


def dropout(channels: int, classes: int, size: int) -> nn.Module:
    layers = list(small(channels, classes, size))
    return nn.Sequential(*layers[:-1], nn.Dropout(0.3), layers[-1])


def k_winners(channels: int, classes: int, size: int) -> nn.Module:
    return with_activation(small(channels, classes, size), KWinners)


def thermometer(channels: int, classes: int, size: int) -> nn.Module:
    layer = Thermometer()
    return nn.Sequential(layer, *small(layer.levels * channels, classes, size))


def sparse(channels: int, classes: int, size: int) -> nn.Module:
    return make_sparse(small(channels, classes, size))


class Odd(nn.Module):
    """Whether a digit is odd, from a network that knows ten: two classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return torch.stack([logits[:, odd::2].logsumexp(dim=1) for odd in range(2)], dim=1)
