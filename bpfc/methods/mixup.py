"""Mixup (Zhang et al. 2018) and Manifold Mixup (Verma et al. 2018): linear behaviour between training images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.methods.base import MethodOutput
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class Mixup:
    """Cross-entropy on mixed images, m · x + (1 − m) · x', against both labels, with m drawn for the batch.

    loss = m · ce(g(mixed), y) + (1 − m) · ce(g(mixed), y'), m ~ Beta(α, α), x' and y' the same batch in another order.
    """

    alpha: float = 1.0
    """Of the Beta distribution; towards 0, images are hardly mixed."""
    name: ClassVar[str] = "mixup"

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the mixed images."""
        share, order = _draw(self.alpha, images)
        return _mixed_loss(logits_of(model, _mix(images, share, order)), labels, share, order)

    def weighted(self, factor: float) -> Self:
        """Unchanged: there is no regulariser to weigh."""
        return self


IMAGES = "images"
"""The place before the first layer."""


@dataclass(frozen=True)
class ManifoldMixup:
    """Mixup at a place drawn for each batch: the images, or the output of one of the named layers."""

    layers: tuple[str, ...] = (IMAGES,)
    """Names of modules, as in model.named_modules(), whose outputs may be mixed; "images" stands for the images."""
    alpha: float = 2.0
    """Of the Beta distribution; 2 is the value of Verma et al. for CIFAR-10."""
    name: ClassVar[str] = "manifold-mixup"

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        if not self.layers:
            raise ValueError("layers=(): name at least one place to mix at")

    def check(self, model: nn.Module) -> None:
        """Raises ValueError if the model lacks one of the layers."""
        for layer in self.layers:
            if layer != IMAGES:
                _module(model, layer)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the mixed forward.

        Raises:
            ValueError: the model has no such layer, or its forward does not call it once.
        """
        layer = self.layers[int(torch.randint(len(self.layers), ()))]
        share, order = _draw(self.alpha, images)
        if layer == IMAGES:
            logits = logits_of(model, _mix(images, share, order))
        else:
            with _output_mixed(model, layer, share, order):
                logits = logits_of(model, images)
        return _mixed_loss(logits, labels, share, order)

    def weighted(self, factor: float) -> Self:
        """Unchanged: there is no regulariser to weigh."""
        return self


def _check_alpha(alpha: float) -> None:
    if not alpha > 0:
        raise ValueError(f"alpha={alpha!r}: must be above 0")


def _draw(alpha: float, images: Tensor) -> tuple[float, Tensor]:
    """The share of the first image, and the order of the second ones, from torch's global generator.

    By way of NumPy, because torch's Beta answers 1/2 where α is so small that its gamma variates underflow.
    """
    share = np.random.default_rng(int(torch.randint(2**62, ()))).beta(alpha, alpha)
    return float(share), torch.randperm(len(images), device=images.device)


def _mix(values: Tensor, share: float, order: Tensor) -> Tensor:
    return share * values + (1 - share) * values[order]


def _mixed_loss(logits: Tensor, labels: Tensor, share: float, order: Tensor) -> MethodOutput:
    loss = share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, labels[order])
    return MethodOutput(loss, logits, {"cross_entropy": loss.detach()})


@contextmanager
def _output_mixed(model: nn.Module, layer: str, share: float, order: Tensor) -> Iterator[None]:
    calls = 0

    def mix(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return _mix(output, share, order)

    handle = _module(model, layer).register_forward_hook(mix)
    try:
        yield
    finally:
        handle.remove()
    if calls != 1:  # else the labels alone would be mixed, or the outputs more than once
        raise ValueError(
            f"layers: {layer!r} is called {calls} times in a forward, must be once; name another layer, and of a model "
            "from torch.compile, whose hooks it may pass over, hand in the one that was compiled"
        )


def _module(model: nn.Module, layer: str) -> nn.Module:
    modules = dict(model.named_modules())
    if layer not in modules:
        raise ValueError(
            f"layers: the model has no {layer!r}; it has {', '.join(name for name in modules if name)}; and images"
        )
    return modules[layer]
