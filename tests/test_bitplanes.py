import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfc import bit_planes, quantize

BITS_AND_K = st.integers(2, 16).flatmap(lambda bits: st.tuples(st.just(bits), st.integers(1, bits - 1)))


def numpy_quantize(pixels: np.ndarray, k: int, bits: int, noise: np.ndarray) -> np.ndarray:
    """Algorithm 1, line by line, on pixel values."""
    x = pixels + noise
    x = x - np.mod(x, 2**k)
    x = x + 2 ** (k - 1)
    return np.minimum(np.maximum(x, 0), 2**bits - 1)


@given(BITS_AND_K, st.integers(0, 2**32 - 1))
def test_equals_the_numpy_twin(bits_and_k: tuple[int, int], seed: int) -> None:
    bits, k = bits_and_k
    largest = 2**bits - 1
    pixels = np.random.default_rng(seed).integers(0, largest + 1, 500)
    images = torch.from_numpy(pixels / largest)
    plain = quantize(images, k, bits=bits, noise=False)
    np.testing.assert_allclose(plain * largest, numpy_quantize(pixels, k, bits, np.zeros(500)), atol=1e-6)
    noisy = quantize(images, k, bits=bits, generator=torch.Generator().manual_seed(seed))
    unit = torch.rand(500, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()
    twin = numpy_quantize(pixels, k, bits, (2 * unit - 1) * 2.0 ** (k - 2))
    np.testing.assert_allclose(noisy * largest, twin, atol=1e-6)


@given(BITS_AND_K, st.sampled_from([torch.float32, torch.float64]), st.booleans(), st.integers(0, 1000))
@settings(max_examples=60)
def test_properties(bits_and_k: tuple[int, int], dtype: torch.dtype, noise: bool, seed: int) -> None:
    bits, k = bits_and_k
    largest = 2**bits - 1
    images = torch.rand(3, 1, 5, 4, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    out = quantize(images, k, bits=bits, noise=noise, generator=torch.Generator().manual_seed(seed))
    assert (out.shape, out.dtype) == (images.shape, dtype)
    assert out.min() >= 0
    assert out.max() <= 1
    reach = 2 ** (k - 1) + (2.0 ** (k - 2) if noise else 0)
    assert (out - images).abs().max() * largest <= reach + 0.02
    assert len(out.unique()) <= 2 ** (bits - k) + 2
    assert torch.equal(out, quantize(images, k, bits=bits, noise=noise, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    ("k", "values", "largest_change", "mean_change", "of_zero"),
    [
        (5, [0, *range(16, 241, 32), 255], 24, 0.033, 16),
        (6, [0, 32, 96, 160, 224, 255], 48, 0.064, 32),
        (7, [0, 64, 192, 255], 96, 0.120, 64),
    ],
)
def test_invariants_of_the_protocol(
    k: int, values: list[int], largest_change: int, mean_change: float, of_zero: int
) -> None:
    images = (torch.arange(256) / 255).repeat(4000, 1)
    out = quantize(images, k, generator=torch.Generator().manual_seed(0))
    change = (out - images).abs()
    assert (out * 255).round().int().unique().tolist() == values
    assert largest_change - 2 <= change.max() * 255 <= largest_change + 1e-3
    assert change.mean() == pytest.approx(mean_change, abs=5e-4)
    at_zero = (out[:, 0] * 255).round()
    assert set(at_zero.tolist()) == {0.0, float(of_zero)}
    assert (at_zero == 0).float().mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("k", range(1, 8))
def test_every_pixel_value_is_exact_in_every_dtype(dtype: torch.dtype, k: int) -> None:
    """i / 255 · 255 may fall short of i, and the modulus then takes a whole step too much."""
    out = quantize((torch.arange(256, dtype=torch.float64) / 255).to(dtype), k, noise=False)
    expected = numpy_quantize(np.arange(256), k, 8, np.zeros(256))
    np.testing.assert_allclose(out.double() * 255, expected, atol=255 * torch.finfo(dtype).eps)


def test_follows_the_device_seed_and_leaves_the_input() -> None:
    images = torch.rand(2, 3, 8, 8)
    before = images.clone()
    torch.manual_seed(3)
    first = quantize(images, 5)
    torch.manual_seed(3)
    assert torch.equal(first, quantize(images, 5))
    assert torch.equal(images, before)


@pytest.mark.parametrize(("k", "bits"), [(0, 8), (8, 8), (-1, 8), (2, 2), (2.5, 8), (True, 8), (3, 1), (3, 17)])
def test_wrong_k_or_bits_is_named(k: int, bits: int) -> None:
    with pytest.raises(ValueError, match=rf"(k|bits)={k if 2 <= bits <= 16 else bits}.*whole number"):
        quantize(torch.rand(2), k, bits=bits)


def test_integer_images_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8.*images / 255"):
        quantize(torch.zeros(2, dtype=torch.uint8), 5)


@given(st.integers(2, 16), st.integers(0, 2**32 - 1))
def test_planes_add_up_to_the_image(bits: int, seed: int) -> None:
    largest = 2**bits - 1
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(0, largest + 1, (4, 3)))
    planes = bit_planes((pixels / largest).float(), bits)
    assert planes.shape == (bits, 4, 3)
    assert set(planes.unique().tolist()) <= {0.0, 1.0}
    weights = 2 ** torch.arange(bits)
    assert torch.equal((planes.long() * weights[:, None, None]).sum(0), pixels)


def test_plane_zero_is_the_least_significant() -> None:
    assert bit_planes(torch.tensor([1 / 255]))[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
