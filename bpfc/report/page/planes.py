"""What a BPFC network was trained to do without: the bit planes of images, and what the quantiser keeps of them."""

from typing import NamedTuple

import torch
from markupsafe import Markup
from torch import Tensor

from bpfc.bitplanes import bit_planes, quantize
from bpfc.report.page.pictures import strip
from bpfc.report.page.svg import Axis, Series, chart, legend

DRAWN = 256
"""Pixel values at which the staircase is drawn, if there are more."""


class Planes(NamedTuple):
    """An image, its planes from the highest down, and its coarse version, as one picture."""

    address: str
    alt: str


def rows(images: Tensor, labels: list[str], k: int, bits: int = 8) -> list[Planes]:
    """For images (N, C, H, W) in [0, 1]: a picture of the image, its `bits` planes and q(x).

    Planes below the k-th are dimmed: the quantiser drops them.
    """
    coarse = quantize(images, k, bits=bits, generator=torch.Generator().manual_seed(0))
    planes = bit_planes(images, bits)
    found = []
    for place, label in enumerate(labels):
        shown = [planes[plane, place] * (0.45 if plane < k else 1.0) for plane in reversed(range(bits))]
        which = f"its bit planes {bits - 1} to 0, of which 0 to {k - 1} are dropped"
        alt = f"{label}: the image, {which}, and its coarse version"
        found.append(Planes(strip([images[place], *shown, coarse[place]]), alt))
    return found


def kept(images: Tensor, k: int, bits: int = 8) -> str:
    """What the quantiser leaves of images, in words, measured on them."""
    coarse, most = quantize(images, k, bits=bits, generator=torch.Generator().manual_seed(0)), 2**bits - 1
    values = ", ".join(f"{round(float(value) * most)}" for value in coarse.unique())
    change = (coarse - images).abs()
    return (
        f"k = {k}: of {bits} bit planes the {k} lowest go. On the {len(images)} images above q(x) takes the pixel "
        f"values {values}; a pixel moves by {float(change.mean()) * most:.1f} of {most} in the mean, at most by "
        f"{float(change.max()) * most:.0f}."
    )


def staircase(k: int, bits: int = 8) -> Markup:
    """q over pixel values, without its noise, and the ends between which the noise moves it."""
    most = 2**bits - 1
    at = torch.linspace(0, most, min(DRAWN, most + 1)).round()
    x = at / most

    def line(noise: bool | Tensor) -> list[tuple[float, float]]:
        y = quantize(x, k, bits=bits, noise=noise) * most
        return [(float(n), float(value)) for n, value in zip(at, y, strict=True)]

    low, high = torch.full_like(x, -0.999), torch.full_like(x, 0.999)
    series = [
        Series("without noise", line(False), 0, stairs=True),
        Series("noise at its lowest", line(low), 1, stairs=True),
        Series("at its highest", line(high), 2, stairs=True),
    ]
    axis = Axis("pixel value x", 0, most, (*(quarter * 2 ** (bits - 2) for quarter in range(4)), most))
    y = Axis("q(x)", 0, most, axis.ticks)
    drawn = chart(
        f"quantiser-{k}" if bits == 8 else f"quantiser-{k}-of-{bits}", f"The quantiser for k = {k}", axis, y, series
    )
    return drawn + legend((item.name, item.style) for item in series)
