from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import idx_bytes
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bpfc.data import (
    DataError,
    Images,
    alternating_flips,
    crop_and_flip,
    epoch_batches,
    load,
    shrink,
    split,
    to_float,
)


def test_embedded_digits_are_real_and_split_for_good(digits: object) -> None:
    data = load("mnist-5k")
    assert (len(data.train), len(data.test), data.classes, data.channels, data.size) == (4500, 500, 10, 1, 28)
    assert data.train.pixels.dtype == torch.uint8
    assert (data.train.labels.bincount() + data.test.labels.bincount()).tolist() == [500] * 10
    assert torch.equal(data.test.pixels, load("mnist-5k").test.pixels)


@pytest.mark.parametrize(
    ("name", "channels", "size"), [("mnist", 1, 28), ("fashion-mnist", 1, 28), ("cifar-10", 3, 32)]
)
def test_publishers_formats(data_folder: Path, name: str, channels: int, size: int) -> None:
    data = load(name)
    assert data.train.pixels.shape == (60, channels, size, size)
    assert data.test.pixels.shape == (20, channels, size, size)
    assert data.train.labels.shape == (60,)


def test_cifar10_is_planes_of_red_green_blue(data_folder: Path) -> None:
    row = np.fromfile(data_folder / "cifar-10-batches-bin" / "data_batch_1.bin", np.uint8)[:3073]
    first = load("cifar-10").train[:1]
    assert first.labels.item() == row[0]
    assert first.pixels[0, 1, 2, 3] == row[1 + 1024 + 2 * 32 + 3]


def test_idx_says_what_is_wrong() -> None:
    good = idx_bytes(np.zeros((2, 3, 3), np.uint8))
    from bpfc.data.formats import cifar10_binary, idx

    with pytest.raises(DataError, match="not an IDX file"):
        idx(b"PK\x03\x04", "file")
    with pytest.raises(DataError, match="needs 34"):
        idx(good[:-1], "file")
    with pytest.raises(DataError, match="3073-byte"):
        cifar10_binary(bytes(3072), "file")


def test_split_holds_out_by_seed(digits: object) -> None:
    images = Images(torch.arange(100, dtype=torch.uint8), torch.arange(100))
    train, validation = split(images, 30, seed=1)
    assert sorted([*train.labels.tolist(), *validation.labels.tolist()]) == list(range(100))
    assert torch.equal(validation.labels, split(images, 30, seed=1)[1].labels)
    assert not torch.equal(validation.labels, split(images, 30, seed=2)[1].labels)
    for wrong in (0, 100):
        with pytest.raises(ValueError, match=f"validation={wrong}"):
            split(images, wrong, seed=1)


def ten_images() -> Images:
    return Images(torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8), torch.arange(10))


@pytest.mark.parametrize("augment", [False, True])
def test_processes_share_the_batches_of_one(augment: bool) -> None:
    data = ten_images()

    def batches(rank: int, world: int) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
        generator = torch.Generator().manual_seed(5)
        return list(epoch_batches(data, 4, augment=augment, generator=generator, rank=rank, world=world))

    shares = zip(batches(0, 3), batches(1, 3), batches(2, 3), strict=False)
    for whole, parts in zip(batches(0, 1), shares, strict=False):
        assert torch.equal(whole[0], torch.cat([images for images, _, _ in parts]))
        assert torch.equal(whole[1], torch.cat([labels for _, labels, _ in parts]))
        assert sum(share for _, _, share in parts) == pytest.approx(1)
    assert sorted(torch.cat([labels for _, labels, _ in batches(0, 1)]).tolist()) == list(range(10))


def test_crop_and_flip_equals_the_plain_loop() -> None:
    pixels = ten_images().pixels
    shifts, flips = torch.randint(0, 9, (10, 2)), torch.rand(10) < 0.5
    padded = torch.nn.functional.pad(pixels, (4, 4, 4, 4))
    for i, out in enumerate(crop_and_flip(pixels, shifts, flips)):
        y, x = shifts[i].tolist()
        plain = padded[i, :, y : y + 32, x : x + 32]
        assert torch.equal(out, plain.flip(2) if flips[i] else plain)


def test_alternating_flips_show_each_image_both_ways_in_any_two_epochs() -> None:
    epochs = [alternating_flips(1000, 7, epoch) for epoch in range(4)]
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[1], epochs[3])
    assert torch.equal(epochs[0], ~epochs[1])
    assert 400 < epochs[0].sum() < 600
    assert not torch.equal(epochs[0], alternating_flips(1000, 8, 0))


def test_given_flips_take_the_place_of_drawn_ones() -> None:
    """By index, whatever the order; the shifts are drawn as they are without."""
    data = ten_images()
    flips = torch.arange(10) % 3 == 0
    generator = torch.Generator().manual_seed(5)
    (images, labels, _), *_ = epoch_batches(data, 10, augment=True, generator=generator, flips=flips)
    generator = torch.Generator().manual_seed(5)
    order = torch.randperm(10, generator=generator)
    shifts = torch.randint(0, 9, (10, 2), generator=generator)
    assert torch.equal(labels, order)
    assert torch.equal(images, to_float(crop_and_flip(data.pixels[order], shifts, flips[order])))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_shrunk_pixels_are_whole_numbers_and_means_of_what_they_cover(dtype: torch.dtype) -> None:
    pixels = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32).remainder(251).to(dtype)
    smaller = shrink(pixels, 24)
    assert smaller.shape == (2, 3, 24, 24)
    assert smaller.dtype == dtype
    assert torch.equal(shrink(torch.full_like(pixels, 77), 24), torch.full_like(smaller, 77))
    stored = torch.rand(2, 3, 32, 32)
    assert shrink(stored, 24).dtype == torch.float32
    assert shrink(stored, 24).min() >= 0
    assert shrink(stored, 24).max() <= 1
    assert shrink(stored, 24).mean().item() == pytest.approx(stored.mean().item(), abs=0.01)


def test_an_epoch_of_smaller_images() -> None:
    data = ten_images()
    epoch = epoch_batches(data, 4, augment=False, generator=torch.Generator().manual_seed(5), side=24)
    for images, labels, _ in epoch:
        assert torch.equal(images, to_float(shrink(data.pixels[labels], 24)))


def test_to_float() -> None:
    out = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert out.dtype == torch.float32
    assert out.tolist() == pytest.approx([0, 0.2, 1])
    stored = torch.rand(2, 1, 3, 3)
    assert to_float(stored) is stored
    with pytest.raises(ValueError, match=r"torch.int64: must be uint8, uint16, or float32"):
        to_float(torch.tensor([3]))


class NoUint16(TorchFunctionMode):
    """As torch on CUDA, which has no kernels to index or pad it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.__getitem__, F.pad) and args[0].dtype == torch.uint16:
            raise NotImplementedError(f"{func} not implemented for 'UInt16'")
        return func(*args, **(kwargs or {}))


def test_images_of_16_bits_are_chosen_and_augmented_by_what_cuda_can_do() -> None:
    pixels = torch.randint(0, 65536, (5, 1, 6, 6), dtype=torch.int32)
    chosen, shifts, flips = torch.tensor([4, 0, 2]), torch.tensor([[0, 8], [3, 4], [8, 1]]), torch.arange(3) == 1
    with NoUint16():
        some = Images(pixels.to(torch.uint16), torch.arange(5))[chosen].pixels
        moved = crop_and_flip(some, shifts, flips)
    assert some.dtype == moved.dtype == torch.uint16
    assert torch.equal(some.to(torch.int32), pixels[chosen])
    assert torch.equal(moved.to(torch.int32), crop_and_flip(pixels[chosen], shifts, flips))
