"""Bit planes of an image, and the paper's quantiser. Pure tensor functions: no state, no model."""

import torch
from torch import Tensor


def quantize(
    images: Tensor,
    k: int,
    *,
    bits: int = 8,
    noise: bool | Tensor = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Drop the k lowest bit planes of n-bit images, as Algorithm 1 of the paper does.

    On pixel values 0 … 2^n − 1: add uniform noise U(−2^(k−2), 2^(k−2)), subtract the floor-modulus by 2^k, add 2^(k−1)
    (so that the error is centred on 0), clip to the range.

    Args:
        images: float tensor of any shape, values in [0, 1], on any device.
        k: how many bit planes to drop, 1 ≤ k ≤ bits − 1.
        bits: n, the bit depth of the images, 2 … 16.
        noise: the pre-quantisation noise; without it the function is deterministic (the paper's ablation A1). A tensor
            of the shape of `images` with values from U(−1, 1) is taken for it instead of fresh numbers.
        generator: where the noise comes from, on the device of the images; torch's global generator unless given.

    Returns:
        A tensor of the shape, dtype and device of `images`, values in [0, 1].

    Raises:
        TypeError: `images` is not a float tensor.
        ValueError: `bits` or `k` is out of range.
    """
    _check(images, bits)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= bits - 1:
        raise ValueError(f"k={k!r}: must be a whole number (int) from 1 to bits - 1 = {bits - 1}")
    pixels = _to_pixels(images, bits)
    if isinstance(noise, Tensor):
        pixels = pixels + noise * 2.0 ** (k - 2)
    elif noise:
        pixels = pixels + uniform_like(pixels, 2.0 ** (k - 2), generator)
    pixels = pixels - torch.remainder(pixels, 2**k) + 2 ** (k - 1)
    largest = 2**bits - 1
    return (pixels.clamp(0, largest) / largest).to(images.dtype)


def k_for(eps: float, bits: int = 8) -> int:
    """How many planes to drop for an ε: the fewest with which the quantiser's error, at most 2^(k−1) + 2^(k−2) pixel
    values with its noise, exceeds ε.

    It gives the paper's k for ε 0.3 (7) and 0.1 (6); for 8/255 it gives 4, where the paper has 5.

    Args:
        eps: ℓ∞ radius, in units of [0, 1].
        bits: n, the bit depth of the images, 2 … 16.

    Raises:
        ValueError: ε is out of range, or so large that a quantiser would have to drop all planes.
    """
    if not 0 < eps <= 1:
        raise ValueError(f"eps={eps!r}: must be above 0 and at most 1 (images are in [0, 1]; 8/255, not 8)")
    for k in range(1, bits):
        if 0.75 * 2**k > eps * (2**bits - 1):
            return k
    raise ValueError(f"eps={eps:.4g}: larger than what any quantiser of {bits} bits moves a pixel by; no k is for it")


def bit_planes(images: Tensor, bits: int = 8) -> Tensor:
    """The bit planes of n-bit images, each 0 or 1; plane i carries weight 2^i, so plane 0 is the least significant.

    Args:
        images: float tensor of any shape, values in [0, 1]; each is taken to the nearest of the 2^bits pixel values.
        bits: n, the bit depth, 2 … 16.

    Returns:
        A tensor of shape (bits, *images.shape) and the dtype of `images`, with
        images ≈ Σ_i 2^i · planes[i] / (2^bits − 1).

    Raises:
        TypeError: `images` is not a float tensor.
        ValueError: `bits` is out of range.
    """
    _check(images, bits)
    pixels = _to_pixels(images, bits).round().to(torch.int32)
    return torch.stack([(pixels >> i) & 1 for i in range(bits)]).to(images.dtype)


def uniform_like(images: Tensor, radius: float, generator: torch.Generator | None = None, *, block: int = 1) -> Tensor:
    """U(−radius, radius) noise of the shape, dtype and device of `images`.

    With `block` above 1, `images` is (…, H, W) and the noise is one number on each block x block pixels, from the upper
    left corner on.
    """
    shape = [*images.shape]
    if block > 1:
        shape[-2:] = [-(-side // block) for side in shape[-2:]]
    unit = torch.rand(shape, generator=generator, dtype=images.dtype, device=images.device)
    if block > 1:
        height, width = images.shape[-2:]
        unit = unit.repeat_interleave(block, -2)[..., :height, :].repeat_interleave(block, -1)[..., :width]
    return (2 * unit - 1) * radius


def _check(images: Tensor, bits: int) -> None:
    if not images.is_floating_point():
        raise TypeError(f"images of dtype {images.dtype}: must be float, in [0, 1]; for uint8 use images / 255")
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits={bits!r}: must be a whole number (int) from 2 to 16")


def _to_pixels(images: Tensor, bits: int) -> Tensor:
    """Values in [0, 1] to pixel values 0 … 2^bits − 1, in float32 or better.

    i / 255 · 255 need not be i in floating point, and the floor-modulus turns the smallest shortfall into a whole
    quantisation step; so what lies within rounding error of a whole pixel value is taken to it.
    """
    largest = 2**bits - 1
    pixels = images.to(torch.promote_types(images.dtype, torch.float32)) * largest
    whole = pixels.round()
    return torch.where((pixels - whole).abs() <= torch.finfo(images.dtype).eps * largest, whole, pixels)
