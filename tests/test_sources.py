"""Where the publishers' files come from: folders of one's own, the cache, Debian's package, the network."""

import gzip
import http.server
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import pooch
import pytest
import torch

from bpfc.data import DataError, load, sources
from bpfc.data import sets as data_sets

TRAIN_IMAGES = "train-images-idx3-ubyte"


def test_raw_files_and_a_named_folder_come_first(data_folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "MNIST" / "raw"
    mine.mkdir(parents=True)
    for path in (data_folder / "MNIST" / "raw").iterdir():
        (mine / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.write_bytes(b"broken")
    assert len(load("mnist", tmp_path / "mine").train) == 60


def test_archive_of_cifar10(data_folder: Path, tmp_path: Path) -> None:
    whole = packed(data_folder, tmp_path / "cifar-10-binary.tar.gz")
    assert torch.equal(load("cifar-10", tmp_path).train.pixels, load("cifar-10", data_folder).train.pixels)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cifar-10-binary.tar.gz: not a complete tar"):
        load("cifar-10", tmp_path)


def packed(data_folder: Path, path: Path) -> bytes:
    """CIFAR-10's archive, as its publisher offers it, in a file."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(data_folder / "cifar-10-batches-bin", "cifar-10-batches-bin")
    return path.read_bytes()


def damage(path: Path) -> None:
    """An archive whose compressed stream stops making sense in the middle of a file, which no tar reader foresees."""
    content = " ".join(map(str, range(30_000))).encode()
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.size = len(content)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, BytesIO(content))
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"\xff" * 100 + whole[middle + 100 :])


def test_an_archive_that_is_damaged_in_its_middle(data_folder: Path, tmp_path: Path) -> None:
    damage(tmp_path / "cifar-10-binary.tar.gz")
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz: not a complete tar archive \(Error -3"):
        load("cifar-10", tmp_path)


def test_debians_package_is_found(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "debian"
    (data_folder / "FashionMNIST" / "raw").rename(system)
    assert sources.FASHION_MNIST.system is None
    monkeypatch.setattr(data_sets, "FASHION_MNIST", replace(sources.FASHION_MNIST, system=system))
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "no-cache")
    assert len(load("fashion-mnist").train) == 60


def test_missing_truncated_and_altered_files_are_named(data_folder: Path) -> None:
    folder = data_folder / "MNIST" / "raw"
    path = folder / f"{TRAIN_IMAGES}.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}.gz: not a complete gzip file"):
        load("mnist")
    content = bytearray(gzip.decompress(whole))
    content[1000] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(
        DataError, match=rf"{TRAIN_IMAGES}: truncated or altered.*expected {sources.MNIST.digests[TRAIN_IMAGES]}"
    ):
        load("mnist")
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-5]))
    with pytest.raises(DataError, match="truncated or altered"):
        load("mnist")
    path.unlink()
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}: missing"):
        load("mnist")


def test_a_folder_of_another_sets_files_of_the_same_names_is_passed_over(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNIST's good files were told to be truncated, and to be deleted."""
    flat = data_folder / "MNIST" / "raw"
    monkeypatch.setenv("BPFC_DATA", str(flat))
    (tmp_path / "FashionMNIST").mkdir()
    (data_folder / "FashionMNIST" / "raw").rename(tmp_path / "FashionMNIST" / "raw")
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path)
    assert len(load("mnist").train) == 60
    assert not torch.equal(load("fashion-mnist").train.pixels, load("mnist").train.pixels)
    (flat / "t10k-labels-idx1-ubyte.gz").write_bytes(b"nothing")
    assert len(load("fashion-mnist").train) == 60
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz: not a complete gzip file"):
        load("mnist")


def test_only_files_of_the_cache_are_told_to_be_deleted(server: Path, tmp_path: Path) -> None:
    load("mnist")
    cache = tmp_path / "cache"
    (cache / "MNIST" / "raw" / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match="truncated or altered.*; delete it and run again to download it$"):
        load("mnist")
    cache.rename(tmp_path / "mine")
    with pytest.raises(DataError, match="truncated or altered.*; put the publisher's file there$"):
        load("mnist", tmp_path / "mine")


def test_unknown_names_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPFC_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="imagenet.*mnist-5k"):
        load("imagenet")
    with pytest.raises(DataError, match="^--data-dir .*nowhere: no such folder"):
        load("mnist", tmp_path / "nowhere")
    with pytest.raises(DataError, match="^BPFC_DATA=.*elsewhere: no such folder"):  # it was passed over
        load("mnist", tmp_path)


@pytest.fixture
def server(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A publisher on this machine; yields the folder that it serves. No other place has the files."""
    monkeypatch.delenv("BPFC_DATA")
    served = data_folder / "MNIST" / "raw"
    handler = partial(QuietHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{httpd.server_port}/"
        monkeypatch.setattr(data_sets, "MNIST", replace(sources.MNIST, url=address))
        monkeypatch.setattr(data_sets, "CIFAR10", replace(sources.CIFAR10, url=address + "cifar-10-binary.tar.gz"))
        monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
        yield served
        httpd.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


def test_downloads_once(server: Path, tmp_path: Path) -> None:
    first = load("mnist")
    for path in server.iterdir():
        path.unlink()
    assert torch.equal(load("mnist").train.pixels, first.train.pixels)
    assert (tmp_path / "cache" / "MNIST" / "raw" / f"{TRAIN_IMAGES}.gz").is_file()


def test_an_altered_download_is_refused_and_not_kept(server: Path, tmp_path: Path) -> None:
    path = server / f"{TRAIN_IMAGES}.gz"
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match="altered"):
        load("mnist")
    path.write_bytes(whole)
    assert len(load("mnist").train) == 60


def test_a_download_that_was_stopped_half_way_goes_on(server: Path, tmp_path: Path) -> None:
    """It left a cache that was taken for the place, and named as incomplete at every start.

    So did one that was under way still, to a second process.
    """
    third = server / "t10k-images-idx3-ubyte.gz"
    third.rename(tmp_path / "withheld")
    with pytest.raises(DataError, match="could not be downloaded"):
        load("mnist")
    assert len(list((tmp_path / "cache" / "MNIST" / "raw").iterdir())) == 2
    (tmp_path / "withheld").rename(third)
    (server / f"{TRAIN_IMAGES}.gz").unlink()  # is in the cache, and not asked for again
    assert len(load("mnist").train) == 60


def test_a_damaged_archive_is_not_kept(server: Path, data_folder: Path) -> None:
    path = server / "cifar-10-binary.tar.gz"
    damage(path)
    with pytest.raises(DataError, match="not a complete tar archive"):
        load("cifar-10")
    packed(data_folder, path)
    assert len(load("cifar-10").train) == 60


def test_what_another_process_has_removed_is_no_error(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that download at once find the same fault."""
    (server / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(b"something else"))
    verify = sources._verify

    def removed(content: bytes, digest: str, path: Path) -> None:
        for each in path.parent.iterdir():
            each.unlink()
        verify(content, digest, path)

    monkeypatch.setattr(sources, "_verify", removed)
    with pytest.raises(DataError, match="altered.*; run again to download it"):
        load("mnist")


def test_an_unreachable_publisher_leaves_a_way_out(server: Path) -> None:
    (server / f"{TRAIN_IMAGES}.gz").unlink()
    with pytest.raises(DataError, match=r"could not be downloaded.*--data-dir or BPFC_DATA.*mnist-5k"):
        load("mnist")
