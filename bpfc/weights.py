"""Tensors on disk: safetensors files that carry their own digest, so that a flipped bit does not go unnoticed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bpfc.files import write_file

DIGEST = "bpfc_tensors_sha256"
"""Under which name a file's own metadata holds the digest of its tensors."""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes, whatever the order of the names and the layout in memory."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hashed.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes the tensors, whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_file(path, save(contiguous, metadata={DIGEST: digest(contiguous)}))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU. Files of others, without a digest, are read unchecked.

    Raises:
        ValueError: the file is missing, damaged, or not safetensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(DIGEST)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing; put it back, or make it again") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as safetensors ({error}); put it back, or make it again") from error
    if told is not None and told != digest(tensors):
        raise ValueError(f"{path}: damaged: its content has not the digest it carries; put it back, or make it again")
    return tensors


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether no tensor holds NaN or an infinite value."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values() if tensor.is_floating_point())
