from pathlib import Path

import numpy as np
import pytest
import torch

from bpfc.data import DataError, load_images


def test_arrays_that_cannot_be_taken(tmp_path: Path) -> None:
    def refuse(message: str, path: Path) -> None:
        with pytest.raises(DataError, match=message):
            load_images(path)

    np.savez(tmp_path / "a.npz", images=np.zeros((2, 3, 4, 4), np.uint8))
    refuse("a.npz: holds images; must hold images", tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 3, 4, 4), np.int64), labels=np.zeros(2, np.int64))
    refuse("int64; must be uint8 or float", tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.zeros(3, np.int64))
    refuse("one integer for each image", tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", images=np.array([object()]), labels=np.zeros(1, np.int64))
    refuse("without running code", tmp_path / "d.npz")
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04 cut short")
    refuse("e.npz: cannot be read", tmp_path / "e.npz")


def test_layouts(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3), np.uint8)
    np.savez(tmp_path / "last.npz", images=pixels, labels=np.array([0, 1, 2]))
    loaded = load_images(tmp_path / "last.npz")
    assert loaded.pixels.shape == (3, 3, 5, 6)
    assert loaded.pixels.dtype == torch.uint8
    assert loaded.pixels[1, 2, 3, 4] == pixels[1, 3, 4, 2]
    assert loaded.labels.tolist() == [0, 1, 2]
    np.savez(tmp_path / "grey.npz", x=pixels[..., 0] / 255, y=np.array([0, 1, 2]))
    grey = load_images(tmp_path / "grey.npz")
    assert grey.pixels.shape == (3, 1, 5, 6)
    assert grey.pixels.dtype == torch.float32
