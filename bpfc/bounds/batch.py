"""BatchNorm in training: bounds by the statistics of the clean batch, which the clean logits have (Shi et al. 2021)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Statistics = Mapping[_BatchNorm, tuple[Tensor, Tensor]]
"""Mean and variance of each BatchNorm layer's channels, both (channels,)."""


@contextmanager
def noted(model: nn.Module) -> Iterator[Statistics]:
    """Fills in by what the layers in train mode normalise the last forward inside it, with its gradient."""
    found: dict[_BatchNorm, tuple[Tensor, Tensor]] = {}

    def note(layer: _BatchNorm, inputs: tuple[Tensor]) -> None:
        if layer.training:
            x = inputs[0].float()
            rows = x.movedim(1, -1).flatten(0, -2)  # a fourth of the time of torch.var_mean on CPUs
            mean = rows.mean(0)
            found[layer] = mean, (rows - mean).square().mean(0)

    handles = [layer.register_forward_pre_hook(note) for layer in model.modules() if isinstance(layer, _BatchNorm)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def normalised_by(statistics: Statistics) -> Iterator[None]:
    """Inside, bounds read these where they would read the layers' running statistics."""
    kept = {layer: (layer.running_mean, layer.running_var) for layer in statistics}
    try:
        for layer, (mean, variance) in statistics.items():
            layer.running_mean, layer.running_var = mean, variance
        yield
    finally:
        for layer, running in kept.items():
            layer.running_mean, layer.running_var = running
