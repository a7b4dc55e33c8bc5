"""Data of one's own: split, decoded when asked for, the same in any number of threads."""

import gzip
import json
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bpfc.data import DataError, Images, Pictures, epoch_batches, in_parts, load, load_images, sets
from bpfc.data.own import load_own
from bpfc.data.shards import _group
from bpfc.errors import UserError
from bpfc.options import Reading


def draw(path: Path, shade: int, size: tuple[int, int] = (6, 6), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(shade)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    Image.fromarray(rng.integers(0, 256, shape, np.uint8), mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten grey pictures of 6×6 each."""
    for label, name in enumerate(("ant", "bee")):
        for number in range(10):
            draw(tmp_path / "set" / name / f"{number}.png", 20 * label + number)
    return tmp_path / "set"


def lazy(folder: Path, **reading: object) -> Pictures:
    found = load_own(folder, Reading(**reading)).train  # type: ignore[arg-type]
    assert isinstance(found, Pictures)
    return found


def test_pictures_are_the_same_decoded_now_or_held(folder: Path) -> None:
    held, later = load_images(folder), lazy(folder)
    assert isinstance(held, Images)
    assert torch.equal(held.pixels, later.pixels)
    assert held.sha256() == later.sha256()
    some = torch.tensor([7, 2, 19])
    assert torch.equal(held[some].pixels, later[some].pixels)
    assert torch.equal(held[3:5].pixels, later[3:5].pixels)
    assert later.shape == held.shape == (20, 1, 6, 6)


def test_large_sets_are_not_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "IN_MEMORY", 20 * 36 - 1)
    assert isinstance(load_images(folder), Pictures)
    assert isinstance(load(str(folder)).test, Images)


def test_no_more_than_two_parts_are_decoded_at_a_time(folder: Path) -> None:
    """Memory is bounded by the batch and the one ahead of it, not by the set."""
    read = []

    class Watched:
        def __init__(self, inside: object, number: int) -> None:
            self.inside, self.number, self.name = inside, number, str(number)

        def read(self) -> bytes:
            read.append(self.number)
            return self.inside.read()  # type: ignore[attr-defined,no-any-return]

    images = lazy(folder)
    images = replace(images, items=[Watched(item, number) for number, item in enumerate(images.items)])
    for done, part in enumerate(in_parts(images, torch.arange(20).split(5))):
        assert len(part) == 5
        assert max(read) < 5 * (done + 2)
    assert sorted(read) == list(range(20))


@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_is_the_same_in_any_number_of_threads(world: int, folder: Path) -> None:
    def epoch(images: Images | Pictures) -> list[torch.Tensor]:
        found = []
        for rank in range(world):
            generator = torch.Generator().manual_seed(3)
            batches = epoch_batches(images, 7, augment=True, generator=generator, rank=rank, world=world)
            found += [pixels for pixels, _, _ in batches]
        return found

    expected = epoch(load_images(folder))
    for workers in (1, 5):
        for mine, theirs in zip(epoch(lazy(folder, workers=workers)), expected, strict=True):
            assert torch.equal(mine, theirs)


def test_what_cannot_be_read_is_named_and_may_be_skipped(folder: Path) -> None:
    whole = (folder / "bee" / "3.png").read_bytes()
    (folder / "bee" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="bee/3.png: not a picture"):
        lazy(folder).sha256()
    with pytest.raises(DataError, match="bee/3.png: not a picture"):
        load(str(folder))
    images = lazy(folder, skip_unreadable=True)
    assert images.skipped == (str(folder / "bee" / "3.png"),)
    assert len(images) == 19
    assert images.labels.bincount().tolist() == [10, 9]
    assert load_images(folder, Reading(skip_unreadable=True)).skipped == images.skipped


def test_a_tenth_is_held_out_for_good_where_there_is_no_test_set(folder: Path) -> None:
    data = load(str(folder))
    assert (len(data.train), len(data.test), data.classes, data.class_names) == (18, 2, 2, ("ant", "bee"))
    assert data.test.sha256() == load(str(folder)).test.sha256()
    every = load_images(folder)
    both = torch.cat([data.train.pixels, data.test.pixels]).flatten(1).tolist()
    assert sorted(both) == sorted(every.pixels.flatten(1).tolist())


def test_parts_are_told_apart_by_name(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "parts"
    root.mkdir()
    folder.rename(root / "train")
    draw(root / "val" / "bee" / "0.png", 99)
    data = load(str(root))
    assert (len(data.train), data.test.labels.tolist()) == (20, [1])  # ant is not there, and bee is 1 still
    assert len(load_images(root)) == 1
    (root / "test").mkdir()
    with pytest.raises(DataError, match="holds val and test; keep the one"):
        load(str(root))
    (root / "test").rmdir()
    draw(root / "val" / "cow" / "0.png", 99)
    draw(root / "val" / "ant" / "0.png", 99)
    with pytest.raises(DataError, match="cow: a class that is not among those to train on"):
        load(str(root))


def test_a_part_without_the_other_is_named_as_what_to_take(folder: Path, tmp_path: Path) -> None:
    """It was to be removed, and in it the data."""
    (tmp_path / "part").mkdir()
    folder.rename(tmp_path / "part" / "train")
    with pytest.raises(DataError, match="if train holds the classes, name .*part/train itself, or .* as train and val"):
        load(str(tmp_path / "part"))
    assert load(str(tmp_path / "part" / "train")).class_names == ("ant", "bee")


def test_labels_may_leave_numbers_out(tmp_path: Path) -> None:
    """A small part of a set may lack a class; what the others are called must not change."""
    np.savez(tmp_path / "some.npz", x=np.zeros((30, 1, 4, 4), np.uint8), y=np.repeat([0, 2, 5], 10))
    data = load(str(tmp_path / "some.npz"))
    assert (data.classes, data.train.labels.unique().tolist()) == (6, [0, 2, 5])


def test_arrays_too_may_come_in_parts(tmp_path: Path) -> None:
    for name, count in (("train", 6), ("test", 3)):
        rng = np.random.default_rng(0)
        np.savez(
            tmp_path / f"{name}.npz", x=rng.integers(0, 65536, (count, 1, 4, 4), np.uint16), y=np.arange(count) % 3
        )
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test), data.classes) == (6, 3, 3)
    assert data.train.dtype == torch.uint16
    with pytest.raises(DataError, match="--size and --colour are for pictures"):
        load(str(tmp_path), reading=Reading(size=4))
    np.savez(tmp_path / "oblong.npz", x=np.zeros((20, 4, 6), np.uint8), y=np.arange(20) % 2)
    with pytest.raises(DataError, match="4×6; networks take squares: make the arrays square$"):
        load(str(tmp_path / "oblong.npz"))
    np.savez(tmp_path / "train.npz", x=np.zeros((2, 1, 4, 4), np.uint16), y=np.array([-1, 2]))
    with pytest.raises(DataError, match="labels from -1 to 2"):
        load(str(tmp_path))


def test_the_shorter_side_is_brought_to_size_and_the_middle_cut_out(folder: Path) -> None:
    stripes = np.repeat(np.array([0, 0, 200, 200, 50, 50], np.uint8), 2)[None].repeat(4, 0)  # 4 × 12
    Image.fromarray(stripes).save(folder / "ant" / "0.png")
    with pytest.raises(DataError, match="say --size"):
        load(str(folder))
    assert load(str(folder), reading=Reading(size=6)).train.shape[1:] == (1, 6, 6)
    image = lazy(folder, size=4)[:1].pixels[0, 0]
    assert image.tolist() == [[200] * 4] * 4  # nothing is resampled, columns 4 … 7 are left
    assert lazy(folder, size=2)[:1].pixels.float().mean() == pytest.approx(200, abs=25)
    with pytest.raises(UserError, match="--size 0: must be 1 or more"):
        Reading(size=0)


def test_sixteen_bits_are_resized_in_sixteen_bits(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8), 40_001, np.uint16)).save(tmp_path / name / "0.png")
    images = lazy(tmp_path, size=4)
    assert images.dtype == torch.uint16
    assert images.pixels.unique().tolist() == [40_001]


def test_colours_by_request(folder: Path) -> None:
    draw(folder / "bee" / "3.png", 7, mode="RGB")
    draw(folder / "bee" / "4.png", 8, mode="RGBA")
    with pytest.raises(DataError, match="say --size and --colour"):
        load(str(folder))
    with pytest.raises(DataError, match="4.png: with transparency"):
        load(str(folder), reading=Reading(colour="rgb"))
    with Image.open(folder / "bee" / "4.png") as picture:
        picture.putalpha(255)
        picture.save(folder / "bee" / "4.png")
    colours = lazy(folder, colour="rgb")
    assert colours.shape[1:] == (3, 6, 6)
    grey = colours[:1].pixels[0]
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], load_images(folder, Reading(colour="grey"))[:1].pixels[0, 0])


def encoded(shade: int) -> bytes:
    content = BytesIO()
    Image.fromarray(np.random.default_rng(shade).integers(0, 256, (6, 6), np.uint8)).save(content, "PNG")
    return content.getvalue()


def tar(path: Path, shades: range, **more: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as file:
        for shade in shades:
            for name, content in (
                (f"some/{shade:04d}.png", encoded(shade)),
                (f"some/{shade:04d}.cls", b"%d" % (shade % 2)),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, BytesIO(content))
        for name, content in more.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(content)
            file.addfile(member, BytesIO(content))


def check_shards(root: Path) -> None:
    """Twelve pictures to train on and three to test on, as `encoded` makes them."""
    data = load(str(root))
    assert (len(data.train), len(data.test), data.classes) == (12, 3, 2)
    for images, shades in ((data.train, range(12)), (data.test, range(12, 15))):
        expected = [np.asarray(Image.open(BytesIO(encoded(shade)))).tolist() for shade in shades]
        assert images.pixels[:, 0].tolist() == expected
        assert images.labels.tolist() == [shade % 2 for shade in shades]


def test_webdataset_s_shards(tmp_path: Path) -> None:
    root = tmp_path / "shards"
    tar(root / "train-0000.tar", range(8))
    tar(root / "train-0001.tar", range(8, 12))
    tar(root / "val-0000.tar", range(12, 15))
    check_shards(root)
    assert len(load_images(root)) == 3
    tar(root / "val-0000.tar", range(12, 15), lonely_png=encoded(1))
    with pytest.raises(DataError, match=r"lonely has not both, a picture and a label"):
        load(str(root))
    tar(root / "val-0000.tar", range(12, 15), **{"some/0012_jpg": encoded(1)})
    with pytest.raises(DataError, match=r"val-0000.tar: some/0012 has two pictures"):
        load(str(root))
    tar(root / "val-0000.tar", range(12, 15), far_png=encoded(1), far_cls=b"3000000000")
    with pytest.raises(DataError, match=r"val-0000.tar: labels from 0 to 3000000000; must be 0, 1, …"):
        load(str(root))
    (root / "val-0000.tar").write_bytes(gzip.compress(b"something"))
    with pytest.raises(DataError, match=r"val-0000.tar: not a plain tar of WebDataset"):
        load(str(root))
    (root / "val-0000.tar").unlink()
    assert len(load(str(root)).test) == 1  # a tenth, as there is none to test on


def parquet(path: Path, shades: range, names: list[str] | None) -> None:
    import pyarrow
    from pyarrow import parquet as writer

    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": encoded(shade), "path": None} for shade in shades]
    table = pyarrow.table({"image": pictures, "label": [shade % 2 for shade in shades]})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    writer.write_table(table, path, row_group_size=5)


@pytest.mark.parametrize("test", ["validation", "test"])
def test_a_hugging_face_data_set_on_disk(test: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    parquet(root / "data" / "train-00000-of-00001.parquet", range(12), ["ant", "bee"])
    parquet(root / "data" / f"{test}-00000-of-00001.parquet", range(12, 15), ["ant", "bee"])
    check_shards(root)
    assert load(str(root)).class_names == ("ant", "bee")
    (root / "data" / f"{test}-00000-of-00001.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        load(str(root))


def test_a_row_group_is_read_once_for_all_threads(tmp_path: Path) -> None:
    parquet(tmp_path / "set" / "train-0.parquet", range(15), None)
    _group.cache_clear()
    images = load_own(tmp_path / "set", Reading(workers=8)).train
    assert len(images.pixels) == 15
    assert _group.cache_info().misses == 3


def test_a_data_set_that_was_saved_as_arrow_is_told_the_way(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "data-00000-of-00001.arrow").write_bytes(b"ARROW1")
    with pytest.raises(DataError, match=r"train/data-00000-of-00001.arrow: Arrow, .*\(to_parquet\)"):
        load(str(tmp_path))


def test_parquet_needs_pyarrow_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "set" / "train-0.parquet", range(12), None)
    assert load(str(tmp_path / "set")).class_names == ("0", "1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"pyarrow is not installed; pip install 'bpfc\[parquet\]'"):
        load(str(tmp_path / "set"))
