"""Fresh weights that intervals pass through without growing out of use: few inputs a neuron."""

from math import sqrt

import torch
from torch import nn

HIDDEN, LAST = 4, 16
"""How many of its inputs a neuron starts with; one of the last linear layer."""


@torch.no_grad()
def make_sparse(network: nn.Sequential) -> nn.Sequential:
    """The same network with fresh weights, all but a few of each neuron's at 0; its biases too. Any of them may grow.

    A layer of n random weights lets a signal through by √n of their size and an interval by n: through M-LeNet's layers
    an interval gains six orders of magnitude on the signal, and training with bounds would rather have constant logits.
    BatchNorm makes up for that in Shi et al. 2021; M-LeNet has none. With s weights a neuron the gain is √s a layer.
    Their variance is 2 / s, as in He et al. 2015.
    """
    layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        outputs, inputs = layer.weight.flatten(1).shape
        count = min(inputs, LAST if layer is layers[-1] else HIDDEN)
        chosen = torch.rand(outputs, inputs).argsort(dim=1)[:, :count]
        values = torch.randn(outputs, count) * sqrt(2 / count)
        layer.weight.copy_(torch.zeros(outputs, inputs).scatter_(1, chosen, values).view_as(layer.weight))
        if layer.bias is not None:
            layer.bias.zero_()
    return network
