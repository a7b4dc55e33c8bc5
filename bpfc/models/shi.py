"""Fresh weights that intervals pass through without growing, for networks with BatchNorm (Shi et al. 2021)."""

from math import pi, sqrt

import torch
from torch import nn


@torch.no_grad()
def make_tight(network: nn.Module) -> nn.Module:
    """The same network with fresh weights of standard deviation √(2π) / n, of n inputs a neuron, and biases at 0.

    Then the expected width of an interval stays what it is from layer to layer (section 3.2 there). The signal shrinks
    by some √n a layer, which BatchNorm makes up for; without it training would not get going.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.normal_(0, sqrt(2 * pi) / layer.weight[0].numel())
            if layer.bias is not None:
                layer.bias.zero_()
    return network
