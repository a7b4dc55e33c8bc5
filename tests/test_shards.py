"""Shards and parts: what is damaged, named otherwise or hidden must not shrink, mix or shift the data in silence."""

import tarfile
from pathlib import Path

import pytest
from test_own_data import parquet, tar

from bpfc.data import DataError, load, load_images


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
