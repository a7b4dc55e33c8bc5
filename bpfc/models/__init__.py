"""Networks: the paper's by name, and those that somebody brings."""

from collections.abc import Callable

from torch import nn

from bpfc.models.m_lenet import m_lenet
from bpfc.models.net_a import net_a
from bpfc.models.outside import Normalise, load_weights, named, state_sha256
from bpfc.models.resnet import resnet18
from bpfc.models.vgg import vgg19

NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "m-lenet": m_lenet,
    "net-a": net_a,
    "resnet-18": resnet18,
    "vgg-19": vgg19,
}
"""By name, functions of (channels, classes, size)."""


def build(name: str, *, channels: int, classes: int, size: int) -> nn.Module:
    """A network with fresh weights, from images (N, channels, size, size) in [0, 1] to logits (N, classes).

    Args:
        name: one of NETWORKS, or package.module:function for a function of your own of the same three arguments.
        channels, classes: of the data.
        size: height and width of the images.

    Raises:
        ValueError: there is no network of that name.
    """
    if ":" in name:
        made = named(name)(channels, classes, size)
        if not isinstance(made, nn.Module):
            raise ValueError(f"network {name!r}: gives a {type(made).__name__}, must give a torch.nn.Module")
        return made
    if name not in NETWORKS:
        raise ValueError(f"network {name!r}: must be one of {', '.join(NETWORKS)}, or your package.module:function")
    return NETWORKS[name](channels, classes, size)


__all__ = [
    "NETWORKS",
    "Normalise",
    "build",
    "load_weights",
    "m_lenet",
    "named",
    "net_a",
    "resnet18",
    "state_sha256",
    "vgg19",
]
