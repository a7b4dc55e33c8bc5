"""A stranger's picture made into what a network sees. Nothing of it is decoded before its size is known."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bpfc.data import DataError

BYTES = 8_000_000
"""Of an uploaded file."""
PIXELS = 20_000_000
"""Of an uploaded picture, as its header says, before it is decoded."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""What is decoded at all; Pillow's other parsers are never reached."""


def read_picture(path: Path, channels: int, size: int, *, inverted: bool = False) -> Tensor:
    """A picture as an image (C, H, W) in [0, 1]: its middle square, made grey or RGB, reduced to the networks' size.

    Transparent parts become white. `inverted` swaps dark and light, for ink on paper where the networks know light
    digits on black.

    Raises:
        DataError: it is too large, of another format, or damaged, or the networks' channels are neither grey nor RGB;
            the message says which.
    """
    if channels not in (1, 3):
        raise DataError(f"the networks take images of {channels} channels, and a picture is grey or RGB")
    if (held := path.stat().st_size) > BYTES:
        raise DataError(f"the picture has {held / 1e6:.0f} MB; must be at most {BYTES / 1e6:.0f}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata; pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > PIXELS:
                    raise DataError(
                        f"the picture has {picture.width} × {picture.height} pixels; must be at most "
                        f"{PIXELS / 1e6:.0f} million"
                    )
                upright = ImageOps.exif_transpose(picture)
                if upright.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
                    upright = Image.fromarray(((np.asarray(upright, np.uint32) + 128) // 257).astype(np.uint8))
                upright = upright.convert("RGBA")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError("the picture has too many pixels; make it smaller") from error
    except DataError:
        raise
    except Exception as error:  # Pillow raises whatever parsing does
        raise DataError(f"not a picture that can be read; must be one of {', '.join(FORMATS)}") from error
    paper = Image.new("RGBA", upright.size, "white")
    opaque = Image.alpha_composite(paper, upright).convert("L" if channels == 1 else "RGB")
    fitted = ImageOps.fit(opaque, (size, size), Image.Resampling.BOX if upright.width > size else 3)
    pixels = np.atleast_3d(np.asarray(ImageOps.invert(fitted) if inverted else fitted))
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
