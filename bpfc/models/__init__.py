"""The paper's networks, by name."""

from collections.abc import Callable

from torch import nn

from bpfc.models.m_lenet import m_lenet
from bpfc.models.net_a import net_a
from bpfc.models.resnet import resnet18
from bpfc.models.vgg import vgg19

NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "m-lenet": m_lenet,
    "net-a": net_a,
    "resnet-18": resnet18,
    "vgg-19": vgg19,
}
"""By name, functions of (channels, classes, size); add your own."""


def build(name: str, *, channels: int, classes: int, size: int) -> nn.Module:
    """A network with fresh weights, from images (N, channels, size, size) in [0, 1] to logits (N, classes).

    Raises:
        ValueError: there is no network of that name.
    """
    if name not in NETWORKS:
        raise ValueError(f"network {name!r}: must be one of {', '.join(NETWORKS)}")
    return NETWORKS[name](channels, classes, size)


__all__ = ["NETWORKS", "build", "m_lenet", "net_a", "resnet18", "vgg19"]
