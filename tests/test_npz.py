import io
import tracemalloc
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from bpfc.data import DataError, load, load_images, to_float


def test_arrays_that_cannot_be_taken(tmp_path: Path) -> None:
    def refuse(message: str, path: Path) -> None:
        with pytest.raises(DataError, match=message):
            load_images(path)

    np.savez(tmp_path / "a.npz", images=np.zeros((2, 3, 4, 4), np.uint8))
    refuse(r"a.npz: holds images, but no labels \(or y\); save both under these names, ", tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 3, 4, 4), np.int64), labels=np.zeros(2, np.int64))
    refuse("int64; must be uint8, uint16 or float", tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.zeros(3, np.int64))
    refuse("one integer for each image", tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", images=np.array([object()]), labels=np.zeros(1, np.int64))
    refuse("object; must be uint8", tmp_path / "d.npz")  # and never unpickled
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04 cut short")
    refuse("e.npz: cannot be read", tmp_path / "e.npz")
    for value, told in ((7, r"images lie in \[0, 7\]: must be in"), (np.nan, "1 of 2 images hold NaN")):
        floats = np.zeros((2, 4, 4))  # a training on them came to its end
        floats[1, 0, 0] = value
        np.savez(tmp_path / "h.npz", images=floats, labels=np.arange(2))
        refuse(f"h.npz: {told}", tmp_path / "h.npz")
    pixels = np.zeros((2, 4, 4), np.uint8)
    np.savez(tmp_path / "f.npz", images=pixels[:0], labels=np.zeros(0, np.int64))
    refuse("f.npz: holds no images", tmp_path / "f.npz")
    for labels in ([0, 2**31], [-1, 0]):  # the names of so many classes took all of the memory
        np.savez(tmp_path / "g.npz", images=pixels, labels=np.array(labels))
        refuse(f"g.npz: labels from {labels[0]} to {labels[1]}; must be 0, 1, …", tmp_path / "g.npz")


def test_arrays_under_other_names_and_parts_without_the_other_are_told_with_the_way_out(tmp_path: Path) -> None:
    """As Keras saves its sets; of a folder that holds one part alone it said "0 classes, 0 pictures"."""

    def told(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            load(str(path))
        return str(caught.value).replace(f"{tmp_path}/", "")

    images, labels = np.zeros((4, 4, 4), np.uint8), np.arange(4) % 2
    np.savez(tmp_path / "keras.npz", x_test=images, y_test=labels)
    assert told(tmp_path / "keras.npz") == (
        "keras.npz: holds x_test, y_test, but no images (or x) and no labels (or y); save both under these names, and "
        "parts to train and to test on as train.npz and val.npz in one folder"
    )
    tests = "none of val.npz, validation.npz, test.npz, valid.npz, dev.npz"
    for held, lacks in (("test", "no train.npz"), ("train", tests)):
        (tmp_path / held).mkdir()
        np.savez(tmp_path / held / f"{held}.npz", x=images, y=labels)
        assert told(tmp_path / held) == (
            f"{held}: holds {held}.npz, but {lacks}; put the part to train on into train.npz and that to test on into "
            f"val.npz, or name {held}/{held}.npz itself"
        )
        assert len(load_images(tmp_path / held / f"{held}.npz")) == 4


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


def test_sizes_are_compared_before_anything_is_read(tmp_path: Path) -> None:
    def handed(shape: tuple[int, ...], content: bytes) -> Path:
        path = tmp_path / "sized.npz"
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with ZipFile(path, "w") as file:
            file.writestr("images.npy", header.getvalue() + content)
            labels = io.BytesIO()
            np.save(labels, np.zeros(2, np.int64))
            file.writestr("labels.npy", labels.getvalue())
        return path

    assert len(load_images(handed((2, 1, 2, 2), bytes(8)))) == 2
    for shape in ((2**40, 1, 28, 28), (2, 1, 2, 1)):
        with pytest.raises(DataError, match=r"sized.npz: images says \d+ bytes, but there are 8"):
            load_images(handed(shape, bytes(8)))


def test_more_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bpfc.data.npz._memory", lambda: 1000)
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.zeros(20, np.int64))
    with pytest.raises(DataError, match="more than this machine has"):
        load_images(tmp_path / "bomb.npz")


@pytest.mark.parametrize("last", [False, True])
def test_memory_of_a_large_file(last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """246 MB took 3.1 GiB. Now a file takes its size, twice where its colours stand last, and what is read at once."""
    monkeypatch.setattr("bpfc.data.npz.CHUNK", 2**20)
    pixels = np.zeros((20, 256, 256, 3) if last else (20, 3, 256, 256), np.float32)
    np.savez(tmp_path / "large.npz", x=pixels, y=np.zeros(20, np.int64))
    tracemalloc.start()
    try:
        load_images(tmp_path / "large.npz")
        assert tracemalloc.get_traced_memory()[1] < (1 + last) * pixels.nbytes + 2**22
    finally:
        tracemalloc.stop()


def test_arrays_that_nobody_asked_for_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 4, 4), np.uint8), y=np.zeros(2, np.int64), z=np.zeros(2), a=np.zeros(1))
    opened = []
    plain = ZipFile.open
    monkeypatch.setattr(ZipFile, "open", lambda self, name, *rest: opened.append(name) or plain(self, name, *rest))
    load_images(tmp_path / "a.npz")
    assert sorted(opened) == ["x.npy", "y.npy"]


def test_depth_order_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bpfc.data.npz.CHUNK", 100)  # several reads
    deep = np.random.default_rng(0).integers(0, 65536, (7, 5, 6, 3), np.uint16)
    for name, stored in (("c", deep), ("f", np.asfortranarray(deep)), ("b", deep.astype(">u2"))):
        np.savez(tmp_path / f"{name}.npz", images=stored, labels=np.arange(7))
        loaded = load_images(tmp_path / f"{name}.npz")
        assert loaded.pixels.dtype == torch.uint16
        assert np.array_equal(loaded.pixels.numpy(), deep.transpose(0, 3, 1, 2))
        assert torch.equal(to_float(loaded.pixels), torch.from_numpy(deep.transpose(0, 3, 1, 2).astype("f4")) / 65535)
