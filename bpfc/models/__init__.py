"""Networks: the paper's by name, and those that somebody brings."""

from collections.abc import Callable
from difflib import get_close_matches

from torch import nn

from bpfc.models.curve import Curve, ToneCurve, behind, ends, with_curve
from bpfc.models.folding import folded, kept_as
from bpfc.models.layout import lay_out
from bpfc.models.learned_curve import LearnedCurve
from bpfc.models.libraries import from_library, from_script, is_code, is_library, is_script, normalisation
from bpfc.models.m_lenet import (
    m_lenet,
    m_lenet_batchnorm,
    m_lenet_half,
    m_lenet_half_batchnorm,
    m_lenet_half_sparse,
    m_lenet_quarter,
    m_lenet_sparse,
)
from bpfc.models.net_a import net_a
from bpfc.models.outside import Normalise, load_weights, named, state_sha256
from bpfc.models.resnet import resnet18, resnet18_half
from bpfc.models.saved import from_folder
from bpfc.models.vgg import vgg19

NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "m-lenet": m_lenet,
    "m-lenet-half": m_lenet_half,
    "m-lenet-quarter": m_lenet_quarter,
    "m-lenet-sparse": m_lenet_sparse,
    "m-lenet-half-sparse": m_lenet_half_sparse,
    "m-lenet-batchnorm": m_lenet_batchnorm,
    "m-lenet-half-batchnorm": m_lenet_half_batchnorm,
    "net-a": net_a,
    "resnet-18": resnet18,
    "resnet-18-half": resnet18_half,
    "vgg-19": vgg19,
}
"""By name, functions of (channels, classes, size)."""


def check_name(name: str) -> None:
    """Raises ValueError if there is no network or curve of that name; those of libraries and of somebody's pass."""
    network, mark, curve = name.rpartition("@")
    if mark:
        check_name(network)
        _curve(curve)
    elif ":" not in name and name not in NETWORKS:
        near = get_close_matches(name, NETWORKS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"network {name!r}: {meant}bpfc networks lists them; or give your package.module:function")


def build(name: str, *, channels: int, classes: int, size: int) -> nn.Module:
    """A network with fresh weights, from images (N, channels, size, size) in [0, 1] to logits (N, classes).

    Args:
        name: one of NETWORKS, timm:NAME or torchvision:NAME where these are installed, or package.module:function for
            a function of your own of the same three arguments. With @a-b after it, as in m-lenet@0.3-0.7, it stands
            behind a tone curve from a to b; with @learned-a-b behind one that begins so and is trained with it.
        channels, classes: of the data.
        size: height and width of the images.

    Raises:
        ValueError: there is no network or curve of that name, or the function fails.
    """
    check_name(name)
    if "@" in name:
        network, _, curve = name.rpartition("@")
        return nn.Sequential(_curve(curve), build(network, channels=channels, classes=classes, size=size))
    if is_library(name):
        return from_library(name, channels=channels, classes=classes)
    if ":" in name:
        factory = named(name)
        try:
            made = factory(channels, classes, size)
        except (Exception, SystemExit) as error:  # it is somebody's code
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(f"network {name!r}: fails when called with channels, classes and size ({told})") from error
        if not isinstance(made, nn.Module):
            raise ValueError(f"network {name!r}: gives a {type(made).__name__}, must give a torch.nn.Module")
        return made
    return NETWORKS[name](channels, classes, size)


def _curve(text: str) -> Curve:
    """A curve as a network's name has it after the @. Raises ValueError if there is no such curve."""
    plain = text.removeprefix("learned-")
    return ToneCurve(*ends(plain)) if plain == text else LearnedCurve(*ends(plain))


__all__ = [
    "NETWORKS",
    "LearnedCurve",
    "Normalise",
    "ToneCurve",
    "behind",
    "build",
    "check_name",
    "folded",
    "from_folder",
    "from_library",
    "from_script",
    "is_code",
    "is_library",
    "is_script",
    "kept_as",
    "lay_out",
    "load_weights",
    "m_lenet",
    "m_lenet_batchnorm",
    "m_lenet_half",
    "m_lenet_half_batchnorm",
    "m_lenet_half_sparse",
    "m_lenet_quarter",
    "m_lenet_sparse",
    "named",
    "net_a",
    "normalisation",
    "resnet18",
    "resnet18_half",
    "state_sha256",
    "vgg19",
    "with_curve",
]
