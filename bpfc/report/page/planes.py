"""What a BPFC network was trained to do without: the bit planes of images, and what the quantiser keeps of them."""

from typing import NamedTuple

import torch
from markupsafe import Markup
from torch import Tensor

from bpfc.bitplanes import bit_planes, quantize
from bpfc.report.page.pictures import strip
from bpfc.report.page.svg import Axis, Series, chart, legend

BITS = 8
PIXELS = 2**BITS - 1


class Planes(NamedTuple):
    """An image, its planes from the highest down, and its coarse version, as one picture."""

    address: str
    alt: str


def rows(images: Tensor, labels: list[str], k: int) -> list[Planes]:
    """For images (N, C, H, W) in [0, 1]: a picture of the image, its eight planes and q(x).

    Planes below the k-th are dimmed: the quantiser drops them.
    """
    coarse = quantize(images, k, generator=torch.Generator().manual_seed(0))
    planes = bit_planes(images)
    found = []
    for place, label in enumerate(labels):
        shown = [planes[plane, place] * (0.45 if plane < k else 1.0) for plane in reversed(range(BITS))]
        alt = f"{label}: the image, its bit planes 7 to 0, of which 0 to {k - 1} are dropped, and its coarse version"
        found.append(Planes(strip([images[place], *shown, coarse[place]]), alt))
    return found


def kept(images: Tensor, k: int) -> str:
    """What the quantiser leaves of images, in words, measured on them."""
    coarse = quantize(images, k, generator=torch.Generator().manual_seed(0))
    values = ", ".join(f"{round(float(value) * PIXELS)}" for value in coarse.unique())
    change = (coarse - images).abs()
    return (
        f"k = {k}: of {BITS} bit planes the {k} lowest go. On the {len(images)} images below q(x) takes the pixel "
        f"values {values}; a pixel moves by {float(change.mean()) * PIXELS:.1f} of {PIXELS} in the mean, at most by "
        f"{float(change.max()) * PIXELS:.0f}."
    )


def staircase(k: int) -> Markup:
    """q over pixel values, without its noise, and the ends between which the noise moves it."""
    x = torch.arange(256) / PIXELS

    def line(noise: bool | Tensor) -> list[tuple[float, float]]:
        y = quantize(x, k, noise=noise) * PIXELS
        return [(float(n), float(value)) for n, value in enumerate(y)]

    low, high = torch.full_like(x, -0.999), torch.full_like(x, 0.999)
    series = [
        Series("without noise", line(False), 0, stairs=True),
        Series("noise at its lowest", line(low), 1, stairs=True),
        Series("at its highest", line(high), 2, stairs=True),
    ]
    axis = Axis("pixel value x", 0, PIXELS, (0, 64, 128, 192, 255))
    y = Axis("q(x)", 0, PIXELS, axis.ticks)
    drawn = chart(f"quantiser-{k}", f"The quantiser for k = {k}", axis, y, series)
    return drawn + legend((item.name, item.style) for item in series)
