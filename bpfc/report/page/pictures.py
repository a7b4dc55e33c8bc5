"""Images as the page holds them: PNG inside of the page, small ones pixel for pixel."""

import base64
import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

LARGEST = 64
"""Pixels of a side; larger images are reduced to it."""


def strip(images: Sequence[Tensor], gap: int = 2) -> str:
    """Images side by side as one PNG, as the address of a picture that lies in the page.

    Args:
        images: (C, H, W), float in [0, 1], of one shape; 1 or 3 channels.
        gap: pixels of white between them.
    """
    parts: list[Tensor] = []
    for image in images:
        image = image if image.shape[0] == 3 else image[:1]
        parts += [image, torch.ones(image.shape[0], image.shape[1], gap)]
    whole = (torch.cat(parts[:-1], dim=2).clamp(0, 1) * 255).round().to(torch.uint8)
    array = whole.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
    side = max(images[0].shape[1:])
    if side > LARGEST:
        shrink = LARGEST / side
        size = max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink))
        picture = picture.resize(size, Image.Resampling.BOX)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def amplified(difference: Tensor, eps: float) -> Tensor:
    """A perturbation (C, H, W) as an image: no change is mid-grey, −ε black, ε white."""
    return 0.5 + difference / (2 * eps)
