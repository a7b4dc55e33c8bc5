"""How images lie in memory where they meet a network."""

from collections.abc import Sequence

import torch
from torch import nn

from bpfc.modes import eval_mode, own_randomness


def lay_out(model: nn.Module, shape: Sequence[int]) -> torch.memory_format:
    """Brings the model's weights into the layout that it is fastest in, and says which: its images are to lie alike.

    That is channels_last, unless the model fails in it, as somebody's does which views values as they lie (x.view).

    Args:
        model: on the CPU.
        shape: (C, H, W) of an image.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    some = torch.zeros(2, *shape).contiguous(memory_format=torch.channels_last)
    try:
        with torch.no_grad(), eval_mode(model), own_randomness(some.device, seed=0):  # it may draw
            model(some)
    except Exception:  # it may be somebody's code; whoever uses the model tells what else is wrong with it
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return torch.contiguous_format
    return torch.channels_last
