"""What is put in force for a while: eval mode, constant parameters, and random numbers of one's own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Layers may be put in train or eval mode inside; each layer's own restored after."""
    before = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in before:
            if module.training != mode:
                module.training = mode


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Every layer in eval mode inside; each layer's own mode restored after."""
    with kept_modes(model):
        model.eval()
        yield


@contextmanager
def constant_parameters(model: nn.Module) -> Iterator[None]:
    """No parameter takes gradients inside; each as it was after."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_()


@contextmanager
def own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """torch's global generators, of the CPU and of the device, seeded inside; restored after."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
