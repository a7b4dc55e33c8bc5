"""Images that somebody hands in: a folder of pictures by class, or an .npz file."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bpfc.data.batches import to_float
from bpfc.data.formats import DataError

PICTURES = (".png", ".bmp", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def load_images(path: Path) -> tuple[Tensor, Tensor]:
    """Float32 images (N, C, H, W) in [0, 1] and integer labels (N,).

    A folder holds one folder a class, whose order by name gives the labels, with pictures of one size and kind. An .npz
    file holds `images` or `x`, uint8 or float in [0, 1], (N, C, H, W) or (N, H, W, C) or (N, H, W); `labels` or `y`.

    Raises:
        DataError: there is nothing there, or it is not as above; the message names the file.
    """
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".npz" and path.is_file():
        return _npz(path)
    raise DataError(f"{path}: must be a folder with one folder of pictures a class, or an .npz file")


def _folder(path: Path) -> tuple[Tensor, Tensor]:
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
    return to_float(stacked), torch.tensor([label for _, label in files])


def _npz(path: Path) -> tuple[Tensor, Tensor]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as .npz without running code ({error})") from error
    images = next((arrays[name] for name in ("images", "x") if name in arrays), None)
    labels = next((arrays[name] for name in ("labels", "y") if name in arrays), None)
    if images is None or labels is None:
        raise DataError(f"{path}: holds {', '.join(arrays) or 'nothing'}; must hold images (or x) and labels (or y)")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or (images.dtype != np.uint8 and images.dtype.kind != "f"):
        raise DataError(
            f"{path}: images of shape {images.shape}, {images.dtype}; must be uint8 or float (N, C, H, W), "
            "(N, H, W, C) or (N, H, W)"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: labels of shape {labels.shape}, {labels.dtype}; must be one integer for each image")
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return (
        to_float(tensor) if tensor.dtype == torch.uint8 else tensor.float(),
        torch.from_numpy(labels.astype(np.int64)),
    )


def _shown(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    return f"{height}×{width} with {channels} channels"
