"""Rows of images in a folder, beside a header that says of what: a killed verb goes on there, and no other does."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bpfc.files import append_lines, read_json, with_checksum, without_checksum, write_json, write_jsonl

R = TypeVar("R", bound=Mapping[str, Any])
FIRST = "first_logits"
"""The one entry of a header that need not be the same, but near: numbers that a model gave."""


@dataclass(frozen=True)
class Kind(Generic[R]):
    """What the rows are.

    Attributes:
        told: what they make up, for messages.
        header, rows: names of the two files.
        schema: version of both.
        row: the TypedDict of a row, with the entries index and label among others.
        check: raises ValueError for a row that disagrees with itself.
    """

    told: str
    header: str
    rows: str
    schema: int
    row: type[R]
    check: Callable[[R], None]


class Resumed(Generic[R]):
    """The rows so far, beside the header, and what those who made them warned of.

    Attributes:
        warnings: each once.
    """

    def __init__(self, folder: Path, header: dict[str, Any], labels: Sequence[int], kind: Kind[R]) -> None:
        """Opens the rows that an earlier start with the same header wrote.

        That one may have been killed, or meant for fewer images: header["images"] may grow.

        Args:
            folder: of both files; it must be there.
            header: what decides a row.
            labels: of all images, by their index.
            kind: of the rows.

        Raises:
            ValueError: the folder holds rows of another header or schema, or of more images; or a row that does not
                fit. The message names the file and the line.
        """
        self.path = folder / kind.rows
        self.warnings: list[str] = []
        self._header_path = folder / kind.header
        self._header = json.loads(json.dumps({"schema": kind.schema} | header))
        self._labels, self._kind = labels, kind
        self._check_header()
        self._rows = {row["index"]: row for row in read_rows(self.path, labels, kind.row, kind.check)}
        self._cut()
        self._write_header()

    @property
    def rows(self) -> list[R]:
        """One for each image so far, by index."""
        return [self._rows[index] for index in sorted(self._rows)]

    @property
    def missing(self) -> list[int]:
        """The indices that have no row yet."""
        return [index for index in range(len(self._labels)) if index not in self._rows]

    def append(self, rows: Iterable[R], warnings: Iterable[str] = ()) -> None:
        """Adds the rows of images that have none, and what attacks warned of meanwhile, on disk before this returns."""
        told = sorted({*self.warnings, *warnings})
        if told != self.warnings:
            self.warnings = told
            self._write_header()
        new = {row["index"]: row for row in rows if row["index"] not in self._rows}
        append_lines(self.path, new.values())
        self._rows |= new

    def absorb(self, others: "Sequence[Resumed[R]]") -> None:
        """Takes over the rows and warnings of others with the same header, by index, and removes their folders.

        A kill at any moment loses nothing.
        """
        if not others:
            return
        for other in others:
            self._rows = other._rows | self._rows
            self.warnings = sorted({*self.warnings, *other.warnings})
        self._write_header()
        write_jsonl(self.path, [with_checksum(row) for row in self.rows])
        for other in others:
            shutil.rmtree(other.path.parent)

    def _check_header(self) -> None:
        path, now = self._header_path, self._header
        if not path.exists():
            if self.path.exists() and self.path.stat().st_size:
                raise ValueError(f"{self.path}: has rows, but no {path.name} says of what; choose another --out")
            return
        try:
            before = read_json(path)
        except ValueError as error:
            raise ValueError(f"{error}; or choose another --out") from error
        found = before.get("schema")
        if found != (mine := self._kind.schema):
            raise ValueError(
                f"{path}: of schema {found or 'none, as early versions wrote it'}, this version writes {mine}; "
                "choose another --out, or go on with the version that began it"
            )
        if isinstance(heard := before.pop("warnings", None), list):
            self.warnings = [str(told) for told in heard]
        if near(before.get(FIRST), now.get(FIRST)):
            before[FIRST] = now.get(FIRST)
        old, new = _flat(before), _flat(now)
        if old.get("eot") == 0:  # as earlier versions wrote None
            del old["eot"]
        changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if changed == ["images"] and isinstance(old.get("images"), int) and old["images"] < new["images"]:
            changed = []
        if changed:
            told = "; ".join(f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in changed)
            raise ValueError(f"{path.parent}: holds {self._kind.told} of other settings ({told}); choose another --out")

    def _cut(self) -> None:
        """Takes off the end of a line that a kill or a full disk cut short."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        if (whole := content.rfind(b"\n") + 1) < len(content):
            if b"\r" in content[whole:]:  # an editor's doing, and not a line alone
                raise ValueError(f"{self.path}: its lines end otherwise than they were written; put the file back")
            with self.path.open("rb+") as file:
                file.truncate(whole)

    def _write_header(self) -> None:
        write_json(self._header_path, self._header | {"warnings": self.warnings})


def read_rows(path: Path, labels: Sequence[int], kind: type[R], check: Callable[[R], None]) -> list[R]:
    """The rows of a file; a last line that a kill cut short is no row. No file, no rows.

    Args:
        path: of the file.
        labels: of all images, by their index.
        kind: the TypedDict of a row.
        check: raises ValueError for a row that disagrees with itself.

    Raises:
        ValueError: a row disagrees with the data, with the other rows or with itself; the message names its line.
    """
    rows: dict[int, R] = {}
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = kind(**without_checksum(json.loads(line), kind.__annotations__))
            index = row["index"]
            if type(index) is not int or not 0 <= index < len(labels):
                raise ValueError(f"index {index!r}, must be from 0 to {len(labels) - 1}")
            if index in rows:
                raise ValueError(f"a second row of image {index}")
            if row["label"] != labels[index]:
                raise ValueError(f"label {row['label']!r}, but image {index} has {labels[index]}")
            check(row)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            told = error if type(error) is ValueError else f"not a row ({error!r})"
            raise ValueError(
                f"{path}, line {number}: {told}; put the file back as it was, or choose another --out"
            ) from error
        rows[index] = row
    return list(rows.values())


def near(old: object, new: Sequence[float] | None) -> bool:
    """Whether logits are alike, but for what another machine rounds otherwise. Earlier versions wrote none."""
    if old is None or new is None:
        return old is None
    if not isinstance(old, list) or len(old) != len(new) or not all(isinstance(each, int | float) for each in old):
        return False
    far = 0.01 * max(map(abs, new))
    return all(abs(mine - its) <= far for mine, its in zip(new, old, strict=True))


def _flat(header: dict[str, Any]) -> dict[str, Any]:
    """With the entries of a dictionary inside under names such as attack_settings.fgsm."""
    inside = {name: value for name, value in header.items() if isinstance(value, dict)}
    plain = {name: value for name, value in header.items() if name not in inside}
    return plain | {f"{name}.{key}": value for name, part in inside.items() for key, value in part.items()}
