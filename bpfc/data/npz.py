"""Images of one's own: an .npz file of arrays."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from bpfc.data.formats import DataError


def load_npz(path: Path) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W), uint8 or float32 as the file has them, and integer labels (N,).

    The file holds `images` or `x`, uint8 or float in [0, 1], (N, C, H, W) or (N, H, W, C) or (N, H, W); `labels` or
    `y`.

    Raises:
        DataError: it is not as above, or would run code; the message names the file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            held = content.files
            # These alone are unpacked: the others may be of any size.
            images, labels = (
                next((content[name] for name in names if name in held), None)
                for names in (("images", "x"), ("labels", "y"))
            )
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as .npz without running code ({error})") from error
    if images is None or labels is None:
        raise DataError(f"{path}: holds {', '.join(held) or 'nothing'}; must hold images (or x) and labels (or y)")
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
    kept = np.ascontiguousarray(images, np.uint8 if images.dtype == np.uint8 else np.float32)
    return torch.from_numpy(kept), torch.from_numpy(labels.astype(np.int64))
