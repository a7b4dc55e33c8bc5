"""BatchNorm folded into the layer before it: what is trained with it is kept as a network without it."""

from copy import deepcopy

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

KEPT_AS = {"m-lenet-batchnorm": "m-lenet", "m-lenet-half-batchnorm": "m-lenet-half"}
"""Networks that are trained with BatchNorm, and those whose weights theirs become when it is folded."""


def kept_as(name: str) -> str:
    """The name of the network that a trained network's weights are kept as; most are kept as they are."""
    network, mark, curve = name.partition("@")
    return KEPT_AS.get(network, network) + mark + curve


def folded(network: nn.Module) -> nn.Module:
    """A copy in eval mode without BatchNorm: each is folded into the convolution or linear layer before it.

    Answers as the network does in eval mode, by its running statistics, but for rounding. Only within nn.Sequential,
    where the layer before is the one whose output BatchNorm takes.
    """
    return _without(deepcopy(network).eval())


def _without(network: nn.Module) -> nn.Module:
    if not isinstance(network, nn.Sequential):
        return network
    layers: list[nn.Module] = []
    for layer in network:
        before = layers[-1] if layers else None
        if isinstance(layer, _BatchNorm) and isinstance(before, nn.Conv2d):  # SyncBatchNorm among them
            layers[-1] = fuse_conv_bn_eval(before, layer)
        elif isinstance(layer, _BatchNorm) and isinstance(before, nn.Linear):
            layers[-1] = fuse_linear_bn_eval(before, layer)
        else:
            layers.append(_without(layer))
    return nn.Sequential(*layers)
