"""Images that travel together to a model in eval mode: the one loop over images outside of training."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bpfc.data.batches import to_float
from bpfc.data.images import AnyImages, in_blocks


class Block(NamedTuple):
    """Images that travel together.

    Attributes:
        indices: their places in the data set.
        images: float32 (N, C, H, W) in [0, 1], on the device.
        labels: (N,), likewise.
    """

    indices: list[int]
    images: Tensor
    labels: Tensor


def blocks(images: AnyImages, indices: Sequence[int], size: int, *, channels_last: bool = False) -> Iterator[Block]:
    """The images at `indices`, `size` at a time; see `each_block`."""
    return each_block(images, parts_of(indices, size), channels_last=channels_last)


def parts_of(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    """So many of the indices at a time, in their order."""
    return (list(indices[begin : begin + size]) for begin in range(0, len(indices), size))


def each_block(images: AnyImages, parts: Iterable[list[int]], *, channels_last: bool = False) -> Iterator[Block]:
    """The images at each of the indices `parts`, as floats, a block at a time: the one loop outside of training.

    `channels_last` gives them the layout that convolutions are fastest in, which a model handed in may not bear.
    """
    for part, some in in_blocks(images, parts):
        floats = to_float(some.pixels)
        if channels_last:
            floats = floats.contiguous(memory_format=torch.channels_last)
        yield Block(part, floats, some.labels)
