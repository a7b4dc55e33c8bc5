"""Pictures of one's own: a folder of them for each class."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bpfc.data.formats import DataError

PICTURES = (".png", ".bmp", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def load_folder(path: Path) -> tuple[Tensor, Tensor]:
    """uint8 images (N, C, H, W) and integer labels (N,) from a folder that holds one folder a class.

    The classes' order by name gives the labels. Pictures must be of one size and kind.

    Raises:
        DataError: there is nothing there, or it is not as above; the message names the file.
    """
    classes = sorted(item for item in path.iterdir() if item.is_dir())
    files = [
        (file, label)
        for label, folder in enumerate(classes)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in PICTURES
    ]
    if len(classes) < 2 or not files:
        raise DataError(f"{path}: {len(classes)} classes, {len(files)} pictures; must be a folder of pictures a class")
    pixels = []
    for file, _ in files:
        try:
            with Image.open(file) as picture:
                mode = "L" if picture.mode in ("1", "L") else "RGB"
                pixels.append(np.atleast_3d(np.asarray(picture.convert(mode))))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{file}: not a picture that can be read ({error}); remove or mend it") from error
        if pixels[-1].shape != pixels[0].shape:
            raise DataError(
                f"{file}: {_shown(pixels[-1])}, but {files[0][0].name} is {_shown(pixels[0])}; make all alike first"
            )
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return stacked, torch.tensor([label for _, label in files])


def _shown(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    return f"{height}×{width} with {channels} channels"
