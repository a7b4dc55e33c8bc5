"""Pictures in files of many: WebDataset's tar shards, and the parquet files of a Hugging Face data set on disk.

Nothing is unpacked: a picture's bytes are read from their place when it is needed.
"""

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from bpfc.data.decoding import Encoded
from bpfc.data.folders import PICTURES, by_name
from bpfc.data.formats import DataError, numbered

Listed = tuple[tuple[str, ...], list[Encoded], list[int]]
"""Names of the classes, pictures, labels."""
_READING = Lock()


@dataclass(frozen=True)
class Member:
    """A picture in a tar shard: `size` bytes from `begin` on."""

    path: Path
    key: str
    begin: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.path}, {self.key}"

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.begin)
            return file.read(self.size)


def list_tar(paths: list[Path]) -> Listed:
    """Of WebDataset's shards: KEY.png (or another kind of picture) and KEY.cls, the label as a number.

    The shards must not be compressed. Labels are 0, 1, …; they are their own names.

    Raises:
        DataError: a shard is damaged or compressed, a picture has no label, or the other way round.
    """
    items: list[Encoded] = []
    labels: list[int] = []
    for path in paths:
        pictures: dict[str, Member] = {}
        told: dict[str, int] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    # WebDataset's key is the name up to the first dot of its last part.
                    folder, _, last = member.name.rpartition("/")
                    key, _, kind = last.partition(".")
                    key = f"{folder}/{key}" if folder else key
                    if not member.isfile():
                        continue
                    if f".{kind.lower()}" in PICTURES:
                        if key in pictures:
                            raise DataError(f"{path}: {key} has two pictures; give each a key of its own")
                        pictures[key] = Member(path, member.name, member.offset_data, member.size)
                    elif kind == "cls" and (file := tar.extractfile(member)) is not None:
                        told[key] = int(file.read())
                _check_end(path, tar.offset)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise DataError(f"{path}: not a plain tar of WebDataset ({error}); make the shard again") from error
        if lonely := sorted(pictures.keys() ^ told.keys()):
            raise DataError(f"{path}: {lonely[0]} has not both, a picture and a label (.cls); add the other")
        items += pictures.values()
        labels += [told[key] for key in pictures]
    return _named(paths[0], items, labels, None)


def _check_end(path: Path, at: int) -> None:
    """Two blocks of zeros, and no more than zeros: `tarfile` takes any header that is damaged or cut for the end."""
    with path.open("rb") as file:
        file.seek(at)
        end = file.read(2 * tarfile.BLOCKSIZE)
        rest = iter(lambda: file.read(1 << 20), b"")
        if len(end) < 2 * tarfile.BLOCKSIZE or any(end) or any(part.strip(b"\0") for part in rest):
            raise DataError(f"{path}: damaged or cut short at byte {at}; fetch or make the shard again")


@dataclass(frozen=True)
class Cell:
    """A picture in a parquet file: row `at` of a row group."""

    path: Path
    column: str
    group: int
    at: int

    @property
    def name(self) -> str:
        return f"{self.path}, row {self.at} of group {self.group}"

    def read(self) -> bytes:
        with _READING:  # else each thread would read the group for itself
            group = _group(self.path, self.column, self.group)
        content = group[self.at].as_py()
        if not isinstance(content, dict) or not isinstance(content.get("bytes"), bytes):
            raise DataError(f"{self.name}: holds no picture; save the data set with its pictures inside")
        return content["bytes"]


def list_parquet(paths: list[Path]) -> Listed:
    """Of a Hugging Face data set's parquet files: a column of pictures and one of labels.

    The names of the classes are those that the first file tells which tells any; in the others labels go by their
    names, or as numbers where no names are told. A row group is read at once, and the last few are kept: fast where
    pictures are asked for in their order, and slow where they are not.

    Raises:
        DataError: pyarrow is not installed, a file is not as above, or it has a class that the first has not.
    """
    items: list[Encoded] = []
    labels: list[int] = []
    names: tuple[str, ...] | None = None
    for path in paths:
        cells, mine, told = _rows(path)
        if names is None:
            names = told  # what came before tells no names, so its labels are numbers
        elif cells and told is not None and told != names:
            own, _, _ = _named(path, cells, mine, told)
            mine = relabelled(path, mine, own, str(paths[0]), names)
        items += cells
        labels += mine
    return _named(paths[0], items, labels, names)


def _are_numbers(names: Sequence[str]) -> bool:
    return list(names) == [str(at) for at in range(len(names))]


def relabelled(path: Path, labels: list[int], names: Sequence[str], whole: str, known: Sequence[str]) -> list[int]:
    """Labels that count the classes `known`, those of `whole`, in place of those in `path` that count its `names`.

    Where one of the two has numbers for names, as where no names are told, they stay as they are.

    Raises:
        DataError: a name or number is not known.
    """
    if (_are_numbers(names) or _are_numbers(known)) and len(names) <= len(known):
        return labels
    place = {name: at for at, name in enumerate(known)}
    if strange := [name for name in names if name not in place]:
        raise DataError(f"{path}: holds class {strange[0]}, which {whole} has not; name the same classes in both")
    return [place[names[label]] for label in labels]


def _rows(path: Path) -> tuple[list[Encoded], list[int], tuple[str, ...] | None]:
    """Pictures, labels and, if it tells them, the classes' names of one file."""
    try:
        file = _parquet().ParquetFile(path)
    except DataError:
        raise
    except Exception as error:  # pyarrow raises whatever parsing does
        raise DataError(f"{path}: cannot be read as parquet ({error}); fetch it again") from error
    columns = file.schema_arrow.names
    picture = next((name for name in ("image", "img") if name in columns), None)
    label = next((name for name in ("label", "labels", "fine_label") if name in columns), None)
    if picture is None or label is None:
        raise DataError(f"{path}: columns {', '.join(columns)}; must hold image (or img) and label")
    items: list[Encoded] = []
    labels: list[int] = []
    for group in range(file.num_row_groups):
        values = file.read_row_group(group, columns=[label])[label].to_pylist()
        cells = [Cell(path, picture, group, at) for at in range(len(values))]
        for cell, value in zip(cells, values, strict=True):
            if type(value) is not int:
                raise DataError(f"{cell.name}: {label} is {value!r:.40}; must be an integer")
        items += cells
        labels += values
    return items, labels, _class_names(file.schema_arrow.metadata or {}, label)


@lru_cache(maxsize=4)
def _group(path: Path, column: str, group: int) -> Any:
    """A column of pyarrow's."""
    return _parquet().ParquetFile(path).read_row_group(group, columns=[column])[column]


def _parquet() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise DataError("parquet: pyarrow is not installed; pip install 'bpfc[parquet]'") from error
    return parquet


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...] | None:
    """Those that Hugging Face's `datasets` wrote beside the columns."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, ValueError, TypeError):
        return None


def _named(path: Path, items: list[Encoded], labels: list[int], names: tuple[str, ...] | None) -> Listed:
    if not items:
        raise DataError(f"{path}: holds no pictures")
    low, high = min(labels), max(labels)
    names = names or numbered(path, low, high)
    if low < 0 or high >= len(names):
        raise DataError(f"{path}: labels from {low} to {high}; must be from 0 to {len(names) - 1}")
    return names, items, labels


def shards(path: Path, part: str = "") -> Iterator[tuple[str, list[Path]]]:
    """The shards in a folder or its folder `data`, by kind: those whose names begin with the word `part`."""
    word = re.compile(rf"{part}(?![a-z])" if part else "", re.IGNORECASE)
    for kind in ("tar", "parquet"):
        for folder in (path, path / "data"):
            if found := by_name(file for file in folder.glob(f"*.{kind}") if word.match(file.name)):
                yield kind, found
                break
