"""A model that somebody hands in: a factory by name, its weights, its normalisation."""

import importlib
import sys
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bpfc.errors import UserError
from bpfc.weights import digest, load_tensors

WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before the names of weights."""


class Normalise(nn.Module):
    """(x − mean) / std for each channel, before the network: attacks and ε stay in units of [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise ValueError(f"{len(mean)} means and {len(std)} standard deviations: must be one each for each channel")
        if not all(isfinite(value) and value > 0 for value in std):
            raise ValueError(f"std={tuple(std)}: must be numbers above 0")
        if not all(isfinite(value) for value in mean):
            raise ValueError(f"mean={tuple(mean)}: must be numbers")
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def named(name: str) -> Callable[..., Any]:
    """The function that `package.module:function` names, looked for in the current folder too.

    Importing runs the module's code.

    Raises:
        UserError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{name!r}: must be package.module:function, importable from here ({error})") from error
    except (Exception, SystemExit) as error:  # it is somebody's code
        told = " ".join(str(error).split())
        raise UserError(f"{name!r}: importing it fails ({type(error).__name__}: {told})") from error
    if not callable(found):
        raise UserError(f"{name!r}: is a {type(found).__name__}, must be a function that makes a model")
    return found


def load_weights(model: nn.Module, path: Path) -> None:
    """Weights into a model from a safetensors file or a state dict that torch saved; no code of the file is run.

    A state dict may stand under "state_dict", "model_state_dict" or "model". Its names may all begin with "module."
    (DistributedDataParallel), "_orig_mod." (torch.compile) or both, where the model's own do not. Safetensors that
    carry a digest must have it.

    Raises:
        ValueError: the file cannot be read, or its weights belong to another model.
    """
    content = load_tensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path}: holds no weights by name; save them with torch.save(model.state_dict(), path)")
    try:
        model.load_state_dict(_unwrapped(content, set(model.state_dict())))
    except (RuntimeError, SafetensorError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: not the weights of this model ({reason})") from error


def _unwrapped(state: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The state by the model's names, without what wrappers put before all of them; as it is, if that gives others."""
    bare = state
    while bare.keys() != names:
        prefix = next((each for each in WRAPPERS if bare and all(name.startswith(each) for name in bare)), None)
        if prefix is None:
            return bare if bare.keys() & names else state
        bare = {name.removeprefix(prefix): tensor for name, tensor in bare.items()}
    return bare


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises whatever unpickling does
        pickled = isinstance(error, UnpicklingError)  # whose message advises to run what is in the file
        reason = "it is no state dict, or needs code to be run" if pickled else _first_line(error)
        raise ValueError(
            f"{path}: cannot be read as weights ({reason}); "
            "save them with safetensors, or torch.save(model.state_dict(), path)"
        ) from error


def state_sha256(model: nn.Module) -> str:
    """Of all parameters and buffers: by which a model without a file is known.

    Buffers that no state dict holds (persistent=False) count too, because the answers depend on them.
    """
    # A module's extra state may be anything.
    state = {**dict(model.named_buffers()), **model.state_dict()}
    return digest({name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)})


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
