"""Files are whole or not there, errors name them, and lines carry checksums."""

import errno
import multiprocessing
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import beside
import numpy as np
import pytest
import torch

from bpfc.cli import evaluate
from bpfc.cli.evaluate import Evaluate
from bpfc.evaluation.recorded import _saver
from bpfc.files import append_lines, flush_folder, read_json, read_jsonl, with_checksum, without_checksum, write_json
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.start import train
from bpfc.training.state import TENSORS, State
from bpfc.weights import save_tensors

ROW = {"index": 3, "attacks": {"fgsm": {"broken": False, "linf": None}}}


@contextmanager
def full(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes inside: a part is taken and the rest refused, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    write_json(path, {"a": 1})
    with full(100), pytest.raises(OSError, match=r"some\.json: cannot be written \(File too large\); make room"):
        write_json(path, {"a": "x" * 200})
    assert read_json(path) == {"a": 1}
    with full(100), pytest.raises(OSError, match=r"some\.safetensors: cannot be written"):
        save_tensors(tmp_path / "some.safetensors", {"a": torch.zeros(100)})
    assert not (tmp_path / "some.safetensors").exists()


def test_an_image_is_not_cut_short_by_a_full_disk(tmp_path: Path) -> None:
    """As numpy does in silence, where it writes into a file itself."""
    save, image = _saver(tmp_path), torch.rand(1, 8, 8)
    with full(200), pytest.raises(OSError, match=r"000001\.npy: cannot be written"):
        save(1, image)
    assert not (tmp_path / "000001.npy").exists()
    save(1, image)
    assert np.array_equal(np.load(tmp_path / "000001.npy"), image.numpy())


def test_lines_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    append_lines(path, [ROW])
    with full(path.stat().st_size + 10), pytest.raises(OSError, match=r"some\.jsonl: cannot be written"):
        append_lines(path, [ROW])
    assert read_jsonl(path) == [ROW]


def test_every_flipped_bit_of_a_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    append_lines(path, [ROW])
    whole = path.read_bytes()
    for at in range(8 * (len(whole) - 1)):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            rows = [without_checksum(row, ROW) for row in read_jsonl(path)]
        except ValueError:
            continue
        assert rows == [ROW], at  # a space that became another


def test_an_object_without_checksum_is_an_earlier_versions() -> None:
    assert without_checksum(dict(ROW)) == ROW
    assert without_checksum(with_checksum(ROW), ROW) == ROW
    with pytest.raises(ValueError, match="damaged or edited"):
        without_checksum(with_checksum(ROW) | {"index": 4})
    with pytest.raises(ValueError, match="unknown entry 'indey'"):
        without_checksum({"indey": 3}, ROW)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    enough, turns = spawn.Event(), set[int]()
    writer = spawn.Process(target=beside.write, args=(tmp_path, enough))
    writer.start()
    try:
        while len(turns) < 10 and writer.is_alive():
            if (tmp_path / "some.json").exists():
                read = read_json(tmp_path / "some.json")
                assert len(read["text"]) == 50_000
                rows = read_jsonl(tmp_path / "some.jsonl")
                assert [row["turn"] for row in rows] == list(range(len(rows)))
                turns.add(read["turn"])
    finally:
        enough.set()
        writer.join()
    assert writer.exitcode == 0


def test_what_is_renamed_was_flushed_before_and_its_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a power cut leaves the old file or the new one; and a row is on disk before the next block begins."""
    done: list[tuple[str, str]] = []
    flush, rename = os.fsync, Path.rename

    def flushed(handle: int) -> None:
        done.append(("flushed", Path(f"/proc/self/fd/{handle}").readlink().name))
        flush(handle)

    def renamed(self: Path, target: Path) -> Path:
        done.append(("renamed", self.name))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    monkeypatch.setattr(Path, "rename", renamed)
    save_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(1)})
    append_lines(tmp_path / "l.jsonl", [ROW])
    hidden = ".w.safetensors.tmp"
    assert done == [("flushed", hidden), ("renamed", hidden), ("flushed", tmp_path.name), ("flushed", "l.jsonl")]
    del done[:]
    state = tmp_path / "run"
    state.mkdir()
    Run(state).begin(RECIPES["mnist-5k-normal"][1], "fp32", {})
    Run(state).save(State(1, {}, {}, {}, {}, 1, 0.5, [{"epoch": 1}]))
    (last,) = [at for at, what in enumerate(done) if what[0] == "renamed" and "checkpoint-0001" in what[1]]
    before = {name for kind, name in done[:last] if kind == "flushed"}
    assert {f".{name}.safetensors.tmp" for name in TENSORS} | {".state.json.tmp", done[last][1]} <= before
    assert ("flushed", "run") in done[last:]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES])
def test_a_file_system_that_flushes_no_folders_will_do(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of the network's; every verb ended there, though the file was in its place."""

    def refused(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    write_json(tmp_path / "some.json", {"a": 1})
    assert read_json(tmp_path / "some.json") == {"a": 1}
    number = errno.EIO  # the disk's own trouble is told still
    with pytest.raises(OSError, match=r"some\.json: cannot be written"):
        write_json(tmp_path / "some.json", {"a": 1})


def test_a_folder_that_may_not_be_read_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        flush_folder(tmp_path)


def test_who_reads_beside_the_verbs_sees_whole_files(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    begun, ended, found = spawn.Event(), spawn.Event(), spawn.Queue()
    reader = spawn.Process(target=beside.look, args=(tmp_path / "run", begun, ended, found))
    reader.start()
    begun.wait()
    short = {"epochs": 3, "limit": 20, "batch_size": 10, "validation_attacked": 4, "ifgsm_steps": 1}
    recipe = replace(RECIPES["mnist-5k-normal"][1], network="m-lenet-quarter", **short)
    train(recipe, tmp_path / "run", device="cpu", precision="fp32")
    options = Evaluate(tmp_path / "run", attacks="fgsm", limit=12, batch_size=2, device="cpu", precision="fp32")
    evaluate.run(replace(options, save_images=True))
    ended.set()
    seen, halves = found.get(timeout=60)
    reader.join()
    assert halves == []
    assert {"recipe.json", "log.jsonl", "model.safetensors", "ledger.jsonl", "evaluation.json"} <= seen
