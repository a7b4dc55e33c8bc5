"""Whether images are in the units that every model is shown here, looked at where it costs nothing."""

from weakref import WeakSet

import torch
from torch import Tensor, nn

from bpfc.data.images import out_of_range

SLACK = 0.25
"""How far out of [0, 1] an interpolation may bring a pixel. Images less their mean go further."""
_looked_at: WeakSet[nn.Module] = WeakSet()
"""Models whose first batch was in [0, 1]. To look at every batch would wait for a GPU each time."""


def check_units(model: nn.Module, images: Tensor) -> None:
    """Looks at the images that are given to a method or an attack beside a model.

    Raises:
        TypeError: they are no floats, or such as torch cannot mix with the autocast that is in force.
        ValueError: they are the first beside this model, and not in [0, 1].
    """
    if not images.is_floating_point():
        raise TypeError(f"images of dtype {images.dtype}: must be float, in [0, 1]; for uint8 use images / 255")
    if images.dtype == torch.float16 and images.device.type == "cpu" and _in_bfloat16():
        raise TypeError("images of dtype torch.float16 under bfloat16 autocast: mix on no CPU; use images.float()")
    if not len(images) or torch.compiler.is_compiling() or model in _looked_at:
        return
    if images.min() < -SLACK or images.max() > 1 + SLACK:
        raise ValueError(out_of_range(images))
    _looked_at.add(model)


def _in_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
