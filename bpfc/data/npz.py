"""Images of one's own: an .npz file of arrays, read a few images at a time."""

import os
from math import prod
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from bpfc.data.formats import DataError

CHUNK = 2**24
"""Bytes read at once."""


def load_npz(path: Path) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W), uint8, uint16 or float32 as the file has them, and integer labels (N,).

    The file holds `images` or `x`, uint8, uint16 or float in [0, 1], (N, C, H, W) or (N, H, W, C) or (N, H, W);
    `labels` or `y`. What else it holds is not unpacked, and what it says of an array's size is compared with what is
    there before any of it is read.

    Raises:
        DataError: it is not as above, or would run code; the message names the file.
    """
    try:
        with ZipFile(path) as content:
            held = [name.removesuffix(".npy") for name in content.namelist()]
            images, labels = (
                next((name for name in names if name in held), None) for names in (("images", "x"), ("labels", "y"))
            )
            if images is None or labels is None:
                lacks = ["images (or x)"] * (images is None) + ["labels (or y)"] * (labels is None)
                raise DataError(
                    f"{path}: holds {', '.join(held) or 'nothing'}, but no {' and no '.join(lacks)}; save both under "
                    "these names, and parts to train and to test on as train.npz and val.npz in one folder"
                )
            answers = _read(path, content, labels, "iu", "one integer for each image")
            pixels = _read(
                path, content, images, "uf", "uint8, uint16 or float (N, C, H, W), (N, H, W, C) or (N, H, W)"
            )
    except DataError:
        raise
    except Exception as error:  # zipfile and numpy raise whatever parsing does
        raise DataError(f"{path}: cannot be read as .npz without running code ({error})") from error
    if answers.shape != pixels.shape[:1]:
        raise DataError(f"{path}: labels of shape {answers.shape}, {answers.dtype}; must be one integer for each image")
    return torch.from_numpy(pixels), torch.from_numpy(answers.astype(np.int64))


def _read(path: Path, content: ZipFile, name: str, kinds: str, wanted: str) -> NDArray[np.generic]:
    """An array, the images among them as (N, C, H, W)."""
    pixels = "f" in kinds
    with content.open(f"{name}.npy") as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
        allowed = dtype.kind in kinds and (not pixels or dtype.kind == "f" or dtype.itemsize <= 2)
        if not allowed or len(shape) not in ((3, 4) if pixels else (1,)):
            raise DataError(f"{path}: {name} of shape {shape}, {dtype}; must be {wanted}")
        size, there = prod(shape) * dtype.itemsize, content.getinfo(f"{name}.npy").file_size - file.tell()
        if size != there:
            raise DataError(f"{path}: {name} says {size} bytes, but there are {there}; make the file again")
        if size > _memory():
            raise DataError(f"{path}: {name} takes {size / 2**30:.3g} GiB, more than this machine has; split the file")
        last = pixels and len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)
        kept = dtype.newbyteorder("=") if dtype.kind != "f" else np.dtype(np.float32)
        if fortran:
            whole = np.frombuffer(file.read(), dtype).reshape(shape, order="F").astype(kept)
        else:
            whole = np.empty(shape, kept)
            rows = max(1, CHUNK // max(1, size // max(1, shape[0])))
            for begin in range(0, shape[0], rows):
                count = min(rows, shape[0] - begin)
                part = file.read(count * (size // shape[0]))
                whole[begin : begin + count] = np.frombuffer(part, dtype).reshape(count, *shape[1:])
    if last:
        whole = whole.transpose(0, 3, 1, 2)
    elif pixels and whole.ndim == 3:
        whole = whole[:, None]
    return np.ascontiguousarray(whole)


def _memory() -> int:
    """Bytes of the machine, where it tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63
