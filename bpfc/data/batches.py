"""Batches of a training epoch, made on the device: an index, an augmentation, a division."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from bpfc.data.images import AnyImages, in_parts, signed


def to_float(pixels: Tensor) -> Tensor:
    """Pixels as they are stored (N, C, H, W) to float32 in [0, 1], as a model sees them. The one place of this.

    uint8 is divided by 255, uint16 by 65,535; float32 is in [0, 1] already and comes back as it is.

    Raises:
        ValueError: the pixels are none of these.
    """
    if pixels.dtype == torch.float32:
        return pixels
    if pixels.dtype == torch.uint16:
        return pixels.float() / 65535
    if pixels.dtype != torch.uint8:
        raise ValueError(f"pixels of {pixels.dtype}: must be uint8, uint16, or float32 in [0, 1]")
    return pixels.float() / 255


def epoch_batches(
    data: AnyImages,
    batch_size: int,
    *,
    augment: bool,
    generator: torch.Generator,
    flips: Tensor | None = None,
    side: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """One epoch in random order: float images, labels, and the share of the whole batch's mean that they stand for.

    `flips` (N,) says which images the augmentation mirrors, if they are not to be drawn; `side` is the height and width
    that images are shrunk to after it, if they are.

    `batch_size` is that of all `world` processes together; each process gets its slice of every batch. The order and
    the augmentation come from `generator` (on the CPU), which must be in the same state in every process, and are the
    same for any number of them. Weighing a process's mean loss by the share times `world`, and averaging over the
    processes, gives the mean over the whole batch, also where it does not divide evenly.
    """
    order = torch.randperm(len(data), generator=generator)
    drawn = []
    for batch in order.split(batch_size):
        if len(batch) < world:  # nothing for some process: at most world − 1 images of an epoch are left out
            break
        mine = slice(rank * len(batch) // world, (rank + 1) * len(batch) // world)
        shifts, mirrored = _draw(len(batch), generator) if augment else (None, None)
        drawn.append((batch, mine, shifts, mirrored if flips is None else flips[batch]))
    parts = in_parts(data, (batch[mine].to(data.labels.device) for batch, mine, _, _ in drawn))
    for (batch, mine, shifts, mirrored), chosen in zip(drawn, parts, strict=True):
        pixels = chosen.pixels
        if shifts is not None and mirrored is not None:
            pixels = crop_and_flip(pixels, shifts[mine], mirrored[mine])
        if side is not None:
            pixels = shrink(pixels, side)
        yield to_float(pixels), chosen.labels, len(chosen) / len(batch)


def crop_and_flip(pixels: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """Each image, padded with 4 zeros, cropped to its size at its own (y, x) shift in 0 … 8, and mirrored where asked.

    Args:
        pixels: (N, C, H, W), any dtype.
        shifts: (N, 2), whole numbers.
        flips: (N,), bool.
    """
    count, channels, height, width = pixels.shape
    shifts, flips = shifts.to(pixels.device), flips.to(pixels.device)
    padded = F.pad(signed(pixels), (4, 4, 4, 4))
    rows = torch.arange(height, device=pixels.device) + shifts[:, :1]
    columns = torch.arange(width, device=pixels.device).expand(count, width)
    columns = torch.where(flips[:, None], columns.flip(1), columns) + shifts[:, 1:]
    image = torch.arange(count, device=pixels.device)[:, None, None, None]
    channel = torch.arange(channels, device=pixels.device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]].view(pixels.dtype)


def shrink(pixels: Tensor, side: int) -> Tensor:
    """Images (N, C, H, W) at a smaller height and width, of the same dtype: whole numbers, so that bit planes stay."""
    smaller = F.interpolate(pixels.float(), size=(side, side), mode="bilinear", antialias=True)
    return smaller if pixels.dtype == torch.float32 else smaller.round().to(pixels.dtype)


def alternating_flips(count: int, seed: int, epoch: int) -> Tensor:
    """Which of `count` images are mirrored in an epoch: (count,), bool; half by chance, in the next epoch the others.

    Jordan 2024 (arXiv 2404.00498, section 3.6), who drew the half in the first epoch as well.
    """
    first = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.5
    return first ^ bool(epoch % 2)


def _draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    shifts = torch.randint(0, 9, (count, 2), generator=generator)
    return shifts, torch.rand(count, generator=generator) < 0.5
