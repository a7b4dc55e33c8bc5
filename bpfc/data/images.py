"""Labelled images: in memory, or pictures on disk that are decoded when they are asked for."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from bpfc.data.decoding import Encoded, decode, shown
from bpfc.data.formats import DataError
from bpfc.options import Reading

Item = TypeVar("Item")
CHUNK = 256
"""How many pictures are decoded at once where all of them are gone through."""
TORCH = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}


def signed(pixels: Tensor) -> Tensor:
    """The same memory, int16 where it is uint16, which torch on CUDA cannot index or pad; else the same."""
    return pixels.view(torch.int16) if pixels.dtype == torch.uint16 else pixels


@dataclass(frozen=True)
class Images:
    """Labelled images on one device: pixels (N, C, H, W) and int64 labels (N,).

    The pixels are as they were stored: uint8, of 16 bits uint16, or, of an .npz file that holds floats, float32 in
    [0, 1]. `to_float` makes of a batch of any what a model sees.

    Attributes:
        skipped: names of pictures that could not be read and are not among them.
    """

    pixels: Tensor
    labels: Tensor
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return self.pixels.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.pixels.dtype

    @property
    def channels(self) -> int:
        return self.shape[1]

    def __getitem__(self, index: Tensor | slice) -> Self:
        pixels = signed(self.pixels)[index].view(self.dtype)
        return replace(self, pixels=pixels, labels=self.labels[index])

    def to(self, device: torch.device) -> Self:
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def sha256(self) -> str:
        """Of pixels and labels: by which images without a name are known."""
        return _sha256(self)


@dataclass(frozen=True)
class Pictures:
    """The same of pictures on disk: `pixels` decodes all of them, in threads, each time it is asked for.

    A selection costs nothing until then, so that no more than a batch and the one after it need be in memory.

    Attributes:
        items: the pictures, encoded.
        labels: int64 (N,), on the device that the pixels go to.
        form: channels, height, width of each.
        dtype: uint8 or uint16.
        reading: how they are taken.
        skipped: names of those that could not be read and are not among the items.
    """

    items: Sequence[Encoded]
    labels: Tensor
    form: tuple[int, int, int]
    dtype: torch.dtype
    reading: Reading
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self), *self.form))

    @property
    def channels(self) -> int:
        return self.form[0]

    @property
    def pixels(self) -> Tensor:
        """(N, C, H, W), decoded now.

        Raises:
            DataError: a picture cannot be read or is not like the first; the message names it.
        """
        return self.gather(self.start())

    def start(self) -> "list[Future[NDArray[np.generic]]]":
        """Sets threads to work on all of them."""
        threads = _threads(self.reading)
        return [threads.submit(decode, item, self.reading) for item in self.items]

    def gather(self, begun: "list[Future[NDArray[np.generic]]]") -> Tensor:
        """What `start` began, as (N, C, H, W) on the device."""
        found = np.empty(self.shape, np.uint8 if self.dtype == torch.uint8 else np.uint16)
        try:
            for place, (item, future) in enumerate(zip(self.items, begun, strict=True)):
                pixels = future.result()
                if pixels.shape != self.form or TORCH[pixels.dtype] != self.dtype:
                    first = shown(self.form, self.dtype.itemsize)
                    raise DataError(
                        f"{item.name}: {shown(pixels.shape, pixels.itemsize)}, but the first picture is {first}; make "
                        "all alike first, or say --size and --colour"
                    )
                found[place] = pixels
        finally:
            for future in begun:
                future.cancel()
        return torch.from_numpy(found).to(self.labels.device)

    def __getitem__(self, index: Tensor | slice) -> Self:
        if isinstance(index, slice):
            return replace(self, items=self.items[index], labels=self.labels[index])
        return replace(self, items=[self.items[at] for at in index.tolist()], labels=self.labels[index])

    def to(self, device: torch.device) -> Self:
        return replace(self, labels=self.labels.to(device))

    def sha256(self) -> str:
        """Of pixels and labels, the same as of these images in memory. Finds what cannot be read, at the latest."""
        return _sha256(self)


AnyImages = Images | Pictures
SHOWN = 10
"""Of the pictures that are skipped, how many are named."""


def told_of(skipped: Sequence[str]) -> list[str]:
    """What to tell of pictures that were skipped, a line each."""
    named = [f"skipped: {name} cannot be read" for name in skipped[:SHOWN]]
    return [*named, f"skipped: {len(skipped)} pictures in all"] if named else []


def out_of_range(pixels: Tensor) -> str | None:
    """What is wrong with float images (N, C, H, W), at least one, that must be finite and in [0, 1]; None of sound."""
    parts = pixels.split(1024)  # a mask of all at once would take more than they do
    if count := sum(int((~torch.isfinite(part)).flatten(1).any(dim=1).sum()) for part in parts):
        return f"{count} of {len(pixels)} images hold NaN or infinite values; remove or mend them"
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= 1:
        return None
    advice = "divide by 255, and put any normalisation into the model"
    return f"images lie in [{low:.4g}, {high:.4g}]: must be in [0, 1]; {advice}"


def in_blocks(images: AnyImages, parts: Iterable[list[int]]) -> Iterator[tuple[list[int], Images]]:
    """Each of the indices `parts` with its images; see `in_parts`."""
    asked: deque[list[int]] = deque()

    def places() -> Iterator[Tensor]:
        for part in parts:
            asked.append(part)
            yield torch.tensor(part, device=images.labels.device)

    for some in in_parts(images, places()):
        yield asked.popleft(), some


def in_parts(images: AnyImages, parts: Iterable[Tensor]) -> Iterator[Images]:
    """The images at each of the indices `parts`, in memory: of pictures, one part is decoded while its predecessor is
    worked on. The order is that of the parts, whatever the number of threads."""
    if isinstance(images, Images):
        yield from (images[part] for part in parts)
        return
    begun: deque[tuple[Pictures, list[Future[NDArray[np.generic]]]]] = deque()
    for part in parts:
        some = images[part]
        begun.append((some, some.start()))
        if len(begun) > 1:
            yield _gathered(*begun.popleft())
    if begun:
        yield _gathered(*begun.popleft())


def _gathered(some: Pictures, begun: "list[Future[NDArray[np.generic]]]") -> Images:
    return Images(some.gather(begun), some.labels)


def pictures(items: Sequence[Encoded], labels: Sequence[int], reading: Reading) -> Pictures:
    """Pictures alike to the first of them; without those that cannot be read, if these may be skipped.

    Raises:
        DataError: the first picture cannot be read, or none can; the message names it.
    """
    skipped: list[str] = []
    if reading.skip_unreadable:
        kept = list(_readable(items, reading))
        skipped = [item.name for item, fine in zip(items, kept, strict=True) if not fine]
        items = [item for item, fine in zip(items, kept, strict=True) if fine]
        labels = [label for label, fine in zip(labels, kept, strict=True) if fine]
        if not items:
            raise DataError(f"{skipped[0]}: cannot be read, and no other picture either")
    first = decode(items[0], reading)
    channels, height, width = first.shape
    return Pictures(items, torch.tensor(labels), (channels, height, width), TORCH[first.dtype], reading, tuple(skipped))


def _readable(items: Sequence[Encoded], reading: Reading) -> Iterator[bool]:
    """For each, whether it can be."""

    def fine(item: Encoded) -> bool:
        try:
            decode(item, reading)
        except DataError:
            return False
        return True

    for begin in _told(range(0, len(items), CHUNK), "looking for pictures that cannot be read"):
        yield from _threads(reading).map(fine, items[begin : begin + CHUNK])


def _sha256(images: AnyImages) -> str:
    digest = hashlib.sha256()
    digest.update(f"{images.dtype} {tuple(images.shape)}".encode())
    parts = [torch.arange(begin, min(begin + CHUNK, len(images))) for begin in range(0, len(images), CHUNK)]
    if isinstance(images, Pictures):
        for part in _told(in_parts(images.to(torch.device("cpu")), parts), "reading pictures", len(parts)):
            digest.update(part.pixels.numpy().data)
    else:
        digest.update(images.pixels.cpu().contiguous().numpy().data)
    digest.update(f"{images.labels.dtype} {tuple(images.labels.shape)}".encode())
    digest.update(images.labels.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _told(work: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The same, with the time left shown where somebody watches."""
    yield from track(work, what, total=total, transient=True, disable=not Console().is_terminal)


def _threads(reading: Reading) -> ThreadPoolExecutor:
    return _pool(reading.workers or os.cpu_count() or 1)


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="pictures")
