"""Pictures of one's own: a folder of them for each class."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from bpfc.data.formats import DataError

PICTURES = (".png", ".bmp", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
DEPTHS = {"1": "L", "L": "L", "RGB": "RGB", "P": "RGB", "I;16": "I;16", "I;16B": "I;16", "I;16L": "I;16", "I": "I"}
"""The kinds of pictures that are taken, and as what: grey, colours, palettes of colours, grey of 16 bits."""


def load_folder(path: Path) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and integer labels (N,) from a folder that holds one folder a class.

    The classes' order by name gives the labels; hidden folders and files (.git) are none. Pictures must be of one size
    and kind: grey or RGB of 8 bits as uint8, grey of 16 bits as uint16. A palette of colours is taken for its colours,
    and a picture is turned as its EXIF says.

    Raises:
        DataError: there is nothing there, or it is not as above; the message names the file.
    """
    classes = sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
    if stray := [file for file in path.iterdir() if file.suffix.lower() in PICTURES and file.is_file()]:
        raise DataError(f"{min(stray)}: belongs to no class; put it into a folder for its class, or remove it")
    files = [(file, label) for label, folder in enumerate(classes) for file in _pictures(folder)]
    if len(classes) < 2:
        raise DataError(f"{path}: {len(classes)} classes, {len(files)} pictures; must be a folder of pictures a class")
    first = _read(files[0][0])
    stacked = np.empty((len(files), *first.shape), first.dtype)
    for place, (file, _) in enumerate(files):
        pixels = _read(file)
        if (pixels.shape, pixels.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"{file}: {_shown(pixels)}, but {files[0][0].name} is {_shown(first)}; make all alike first"
            )
        stacked[place] = pixels
    return torch.from_numpy(stacked), torch.tensor([label for _, label in files])


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a class, by name; whatever else is there is named, for it might have been meant to count."""
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    for file in files:
        if file.suffix.lower() not in PICTURES or not file.is_file():
            what = "a folder inside a class" if file.is_dir() else "not one of " + ", ".join(PICTURES)
            raise DataError(f"{file}: {what}; remove it, or save it in the class's folder as one of these")
    if not files:
        raise DataError(f"{folder}: a class without pictures; it would shift the labels after it; remove or fill it")
    return files


def _read(file: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The pixels of a picture, (C, H, W)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, in a line of its own; pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                if any(";16" in str(part) for part in picture.tile) and picture.mode == "RGB":
                    raise DataError(f"{file}: 16 bits a colour, of which 8 would be lost; save it with 8, or as .npz")
                if picture.mode not in DEPTHS or "transparency" in picture.info:
                    raise DataError(
                        f"{file}: a picture of mode {picture.mode}, or with transparency; save it as plain grey or RGB"
                    )
                if DEPTHS[picture.mode] != picture.mode and not picture.mode.startswith("I"):
                    upright = ImageOps.exif_transpose(picture.convert(DEPTHS[picture.mode]))
                else:
                    upright = ImageOps.exif_transpose(picture)
                pixels = np.atleast_3d(np.asarray(upright))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{file}: too large to be a picture for a classifier ({error}); make it smaller") from error
    except DataError:
        raise
    except Exception as error:  # Pillow raises whatever parsing does
        raise DataError(f"{file}: not a picture that can be read ({error}); remove or mend it") from error
    if pixels.dtype == np.int32 and (pixels.min() < 0 or pixels.max() > 65535):
        raise DataError(f"{file}: values from {pixels.min()} to {pixels.max()}; must be of 8 or 16 bits")
    kept = pixels.astype(np.uint8 if pixels.dtype == np.uint8 else np.uint16)
    return np.ascontiguousarray(kept.transpose(2, 0, 1))


def _shown(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> str:
    channels, height, width = pixels.shape
    return f"{height}×{width} with {channels} channels of {8 * pixels.itemsize} bits"
