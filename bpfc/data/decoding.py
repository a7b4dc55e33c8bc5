"""From an encoded picture to pixels, by rules that are stated: nothing is lost or turned without being asked for."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from bpfc.data.formats import DataError
from bpfc.options import Reading

DEPTHS = {"1": "L", "L": "L", "RGB": "RGB", "P": "RGB", "I;16": "I;16", "I;16B": "I;16", "I;16L": "I;16", "I": "I"}
"""The kinds of pictures that are taken, and as what: grey, colours, palettes of colours, grey of 16 bits."""
COLOURED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""What a colour can be asked of: 8 bits a channel at most, so that Pillow's conversion clips and cuts nothing."""
FORMATS = ("PNG", "BMP", "JPEG", "WEBP", "TIFF", "PPM")
"""What is parsed at all, whatever a file's name: of Pillow's other parsers one hands EPS to Ghostscript, a program.
That of JPEG takes MPO as well."""
LARGEST = 89_478_485
"""Pixels of a picture: as many as Pillow decodes without a warning."""
MODES = {"grey": "L", "rgb": "RGB"}
"""What is made of the others where a colour is asked for."""


class Encoded(Protocol):
    """A picture that lies somewhere."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def read(self) -> bytes:
        """Its content.

        Raises:
            OSError, DataError: it cannot be read.
        """
        ...


def decode(item: Encoded, reading: Reading) -> NDArray[np.generic]:
    """The pixels of a picture, (C, H, W), uint8, or uint16 if it is of 16 bits.

    A palette is taken for its colours, and a picture is turned as its EXIF says. With `reading.colour`, grey and
    colours become one another, grey of 16 bits too, and what has an alpha channel loses it if it is opaque. With
    `reading.size`, the shorter side is brought to that by Pillow's bicubic filter, and the middle is cut out of the
    longer.

    Raises:
        DataError: it cannot be read, or has no one meaning; the message names it and the way out.
    """
    name = item.name
    # Pillow warns of damaged metadata, in a line of its own; pixels decide. Other threads decode as well, so that the
    # filter is one for good: catch_warnings would take it away from under them.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with Image.open(BytesIO(item.read()), formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST:
                raise Image.DecompressionBombError(f"{picture.width} x {picture.height} pixels")
            pixels = np.atleast_3d(np.asarray(_resized(_upright(picture, name, reading.colour), name, reading.size)))
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: too large to be a picture for a classifier ({error}); make it smaller") from error
    except DataError:
        raise
    except UnidentifiedImageError as error:
        what = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise DataError(f"{name}: not a picture that can be read; must be {what}, and undamaged") from error
    except Exception as error:  # Pillow raises whatever parsing does
        raise DataError(f"{name}: not a picture that can be read ({error}); remove or mend it") from error
    if pixels.dtype == np.int32 and (pixels.min() < 0 or pixels.max() > 65535):
        raise DataError(f"{name}: values from {pixels.min()} to {pixels.max()}; must be of 8 or 16 bits")
    kept = pixels.astype(np.uint8 if pixels.dtype == np.uint8 else np.uint16)
    if reading.colour == "rgb" and kept.shape[2] == 1:  # of 16 bits, which Pillow knows no colours of
        kept = kept.repeat(3, axis=2)
    return np.ascontiguousarray(kept.transpose(2, 0, 1))


def _upright(picture: ImageFile, name: str, colour: str | None) -> Image.Image:
    if (frames := getattr(picture, "n_frames", 1)) > 1 and picture.format != "MPO":  # a photograph and its previews
        raise DataError(f"{name}: holds {frames} pictures, of which the first alone would count; save each by itself")
    if not picture.mode.startswith("I") and any(map(_deep, picture.tile)):
        raise DataError(f"{name}: 16 bits a colour, of which 8 would be lost; save it with 8, or as .npz")
    if colour is not None and picture.mode in COLOURED:
        if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{name}: with transparency; lay it over a background of your choice first")
        return ImageOps.exif_transpose(picture.convert(MODES[colour]))
    if picture.mode not in DEPTHS or "transparency" in picture.info:
        raise DataError(
            f"{name}: a picture of mode {picture.mode}, or with transparency; save it as plain grey or RGB"
            + (", or say --colour" if picture.mode in COLOURED else "")
        )
    kind = DEPTHS[picture.mode]
    return ImageOps.exif_transpose(picture if kind == picture.mode or kind.startswith("I") else picture.convert(kind))


def _deep(part: Sequence[Any]) -> bool:
    """Whether a part of the file, in Pillow's words (codec, extents, offset, arguments), has over 8 bits a colour."""
    codec, arguments = part[0], part[3]
    if codec.startswith("ppm") and isinstance(arguments, tuple):  # (mode, highest value)
        return bool(arguments[1] > 255)
    return ";16" in str(arguments).replace("BGR;16", "")  # which is 16 bits a pixel, of 5, 6 and 5


def _resized(picture: Image.Image, name: str, size: int | None) -> Image.Image | NDArray[np.generic]:
    if size is None or picture.size == (size, size):
        return picture
    width, height = picture.size
    share = size / min(width, height)
    whole = max(size, round(width * share)), max(size, round(height * share))
    if whole[0] * whole[1] > LARGEST:
        # To cut first would take less memory, but pixels differ by 1 then, and with them the digests that runs hold.
        told = f"{width} x {height} would become {whole[0]} x {whole[1]}"
        raise DataError(f"{name}: {told} at --size {size}, before the middle is cut out; cut it first")
    deep = picture.mode.startswith("I")
    resized = (picture.convert("F") if deep else picture).resize(whole, Image.Resampling.BICUBIC)
    left, top = (whole[0] - size) // 2, (whole[1] - size) // 2
    cut = resized.crop((left, top, left + size, top + size))
    return np.asarray(cut).round().clip(0, 65535).astype(np.uint16) if deep else cut


def shown(form: Sequence[int], itemsize: int) -> str:
    channels, height, width = form
    return f"{height}×{width} with {channels} channels of {8 * itemsize} bits"
