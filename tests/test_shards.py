"""Shards and parts: what is damaged, named otherwise or hidden must not shrink, mix or shift the data in silence."""

import json
import tarfile
from pathlib import Path

import pytest
from test_own_data import draw, parquet, tar

from bpfc.data import DataError, load, load_images
from bpfc.data.shards import shards


def refuse(message: str, path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(str(path))


def test_a_damaged_tar_is_not_taken_for_a_shorter_one(tmp_path: Path) -> None:
    path = tmp_path / "a-0.tar"
    tar(path, range(10))
    assert len(load_images(tmp_path)) == 10
    whole = path.read_bytes()
    with tarfile.open(path) as file:
        header = file.getmembers()[8].offset
        end = file.offset
    flipped = bytearray(whole)
    flipped[header + 3] ^= 1
    beyond = bytearray(whole)
    beyond[-1] = 1
    # A bad header; a cut one; no end at all; half an end; something after the end, as where two shards were joined.
    for content in (flipped, whole[: header + 100], whole[:end], whole[: end + 512], beyond):
        path.write_bytes(content)
        refuse("a-0.tar: damaged or cut short", tmp_path)
    path.write_bytes(whole[: end + 1024])
    assert len(load_images(tmp_path)) == 10


def cats_and_dogs(path: Path, names: list[str] | None, labels: list[int | None]) -> None:
    """As `parquet`, with these labels."""
    import pyarrow
    from pyarrow import parquet as writer

    parquet(path, range(len(labels)), names)
    table = writer.read_table(path)
    writer.write_table(table.set_column(1, "label", pyarrow.array(labels)), path, row_group_size=2)


def test_labels_go_by_the_names_that_each_parquet_file_tells(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path / "train-0.parquet", ["cat", "dog"], [0, 1, 1])
    cats_and_dogs(tmp_path / "train-1.parquet", ["dog", "cat"], [0, 1, 1])
    cats_and_dogs(tmp_path / "test-0.parquet", ["dog", "cat"], [0, 0, 1])
    data = load(str(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 1, 1, 1, 0, 0]
    assert data.test.labels.tolist() == [1, 1, 0]
    cats_and_dogs(tmp_path / "test-0.parquet", ["dog", "cow"], [0, 0, 1])
    refuse(r"test-0.parquet: holds class cow, which the part to train on has not; name the same", tmp_path)
    cats_and_dogs(tmp_path / "test-0.parquet", None, [0, 0, 2])
    refuse(r"test-0.parquet: holds class 0, which the part to train on has not", tmp_path)
    cats_and_dogs(tmp_path / "test-0.parquet", None, [0, 0, 1])  # as other tools write it: the numbers are right
    assert load(str(tmp_path)).test.labels.tolist() == [0, 0, 1]
    cats_and_dogs(tmp_path / "train-0.parquet", None, [0, 1, 1])
    assert load(str(tmp_path)).train.labels.tolist() == [0, 1, 1, 0, 1, 1]
    cats_and_dogs(tmp_path / "train-0.parquet", ["cat", "dog"], [0, 1, 1])
    cats_and_dogs(tmp_path / "train-1.parquet", ["dog", "cat"], [0, 1, 2])
    refuse(r"train-1.parquet: labels from 0 to 2; must be from 0 to 1", tmp_path)


def test_files_without_names_are_numbered_together(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path / "train-0.parquet", None, [0, 0])
    cats_and_dogs(tmp_path / "train-1.parquet", None, [2, 1])
    assert load_images(tmp_path).labels.tolist() == [0, 0, 2, 1]


def test_a_label_that_is_missing_is_told_by_its_row(tmp_path: Path) -> None:
    cats_and_dogs(tmp_path / "train-0.parquet", ["cat", "dog"], [0, 1, 1, None])
    refuse("train-0.parquet, row 1 of group 1: label is None; must be an integer", tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "test"])
def test_names_of_a_part_to_test_on(name: str, tmp_path: Path) -> None:
    tar(tmp_path / "shards" / "train-0.tar", range(8))
    tar(tmp_path / "shards" / f"{name}-0.tar", range(8, 11))
    for part, count in (("train", 3), (name, 2)):
        for number in range(count):
            for label in ("ant", "bee"):
                draw(tmp_path / "folders" / part / label / f"{number}.png", number)
    for root, expected in (("shards", (8, 3)), ("folders", (6, 4))):
        data = load(str(tmp_path / root))
        assert (len(data.train), len(data.test)) == expected


def test_shards_beside_those_to_train_on_are_not_joined_with_them(tmp_path: Path) -> None:
    tar(tmp_path / "train-0.tar", range(8))
    assert len(load_images(tmp_path)) == 8
    tar(tmp_path / "holdout-0.tar", range(8, 11))
    refuse("holdout-0.tar: is neither of train, as train-0.tar is, nor of a part to test on", tmp_path)


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    """macOS leaves ._NAME beside NAME, on disks that know no attributes of its own."""
    tar(tmp_path / "shards" / "a-0.tar", range(8))
    (tmp_path / "shards" / "._a-0.tar").write_bytes(b"Mac OS X")
    (tmp_path / "shards" / "._a-0.arrow").write_bytes(b"Mac OS X")
    assert [path.name for _, found in shards(tmp_path / "shards") for path in found] == ["a-0.tar"]
    assert len(load_images(tmp_path / "shards")) == 8
    for label in ("ant", "bee"):
        draw(tmp_path / "folders" / label / "0.png", 0)
        (tmp_path / "folders" / label / "._0.png").write_bytes(b"Mac OS X")
    (tmp_path / "folders" / "._x.png").write_bytes(b"Mac OS X")
    (tmp_path / "folders" / "._x.arrow").write_bytes(b"Mac OS X")
    assert len(load_images(tmp_path / "folders")) == 2


def test_names_that_a_data_set_tells_otherwise_count_as_none(tmp_path: Path) -> None:
    from pyarrow import parquet as writer

    cats_and_dogs(tmp_path / "train-0.parquet", None, [0, 1])
    for told in ("no JSON", json.dumps({"info": None})):
        table = writer.read_table(tmp_path / "train-0.parquet").replace_schema_metadata({"huggingface": told})
        writer.write_table(table, tmp_path / "train-0.parquet")
        assert load_images(tmp_path).labels.tolist() == [0, 1]
