"""Networks of libraries that the user may have, by name (timm:resnet50, torchvision:resnet50), and TorchScript files.

None of them is needed by bpfc, and nothing is imported unless it is named.
"""

import importlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bpfc.errors import UserError
from bpfc.wrappers import with_hooks

LIBRARIES = ("timm", "torchvision")
SCRIPTS = (".pt", ".ts", ".torchscript")
"""How the name of a TorchScript file may end."""


def is_library(name: str) -> bool:
    """Whether a network's name is that of a library's: no code of anybody else runs for it."""
    library, _, network = name.partition(":")
    return library in LIBRARIES and network.replace("_", "").replace(".", "").isalnum()


def is_code(name: str) -> bool:
    """Whether a network's name is package.module:function, whose import runs somebody's code."""
    return ":" in name and not is_library(name)


def from_library(name: str, *, channels: int, classes: int, pretrained: bool = False) -> nn.Module:
    """A library's network, from images (N, channels, H, W) to logits (N, classes); normalisation is not inside.

    Args:
        name: timm:NAME or torchvision:NAME.
        channels, classes: of the data.
        pretrained: with the library's weights, which it may download; then `classes` must be theirs.

    Raises:
        UserError: the library is not installed, has no such network, or none for these images.
    """
    library, _, network = name.partition(":")
    try:
        module: Any = importlib.import_module(library)
        if library == "timm":
            return module.create_model(network, pretrained=pretrained, num_classes=classes, in_chans=channels)
        if channels != 3:
            raise UserError(f"{name}: torchvision's networks take 3 channels, not {channels}; say --colour rgb")
        weights = "DEFAULT" if pretrained else None
        return importlib.import_module("torchvision.models").get_model(network, weights=weights, num_classes=classes)
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: {error.name} is not installed here; pip install {library}") from error
    except UserError:
        raise
    except Exception as error:  # it is a library's code
        told = " ".join(str(error).split())
        raise UserError(f"{name}: {library} does not make it ({type(error).__name__}: {told})") from error


def normalisation(name: str) -> str:
    """The options that say it, for the weights that a library's network comes with; by their names if it tells none.

    Raises:
        UserError: the library is not installed.
    """
    library, _, network = name.partition(":")
    try:
        module: Any = importlib.import_module(library)
        if library == "timm":
            told = module.get_pretrained_cfg(network)
        else:
            told = importlib.import_module("torchvision.models").get_model_weights(network).DEFAULT.transforms()
        return " ".join(["--mean", *map(str, told.mean), "--std", *map(str, told.std)])
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: {error.name} is not installed here; pip install {library}") from error
    except Exception:  # it is a library's code, and this for advice alone
        return "--mean and --std, as the weights' page has them"


def is_script(name: str) -> bool:
    """Whether that names a TorchScript file."""
    return Path(name).suffix in SCRIPTS and Path(name).is_file()


def from_script(path: Path) -> nn.Module:
    """The network in a TorchScript file, on the CPU. It runs the file's graph, which can only do what TorchScript can.

    Raises:
        UserError: it is no TorchScript.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the format is deprecated
            return with_hooks(torch.jit.load(path, map_location="cpu"))
    except (RuntimeError, ValueError) as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: cannot be read as TorchScript ({told}); if these are weights, name them with --weights, and the "
            "function that makes the model with --model"
        ) from error
