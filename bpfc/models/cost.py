"""What a network costs: parameters and multiply-adds, counted."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, channels: int, size: int) -> int:
    """Of one forward of one image, in convolutions and linear layers: half of what torch counts as operations."""
    model = model.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, channels, size, size, device="meta"))
    return counter.get_total_flops() // 2
