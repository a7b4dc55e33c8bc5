"""Files that are whole or not there, read with errors that name them, in folders that one process owns at a time."""

import errno
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

CHECKSUM = "crc32"
"""Under which name a JSON object holds the checksum of its other entries."""
SUMMARY, AUDIT = "summary.json", "audit.json"
"""What a verb leaves in its folder for others to read."""
UNFLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""How file systems, some of the network's among them, say that they flush no folders, or none that can't be read."""


def write_file(path: Path, content: bytes) -> None:
    """Writes under a temporary name beside `path`, flushes it to disk, and renames it: readers see all or nothing.

    Raises:
        OSError: it cannot be written, as on a full disk; the message names the file. What was there stays.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with _named(path):
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)


def append_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds a line of JSON with its checksum for each row, on disk before this returns.

    Raises:
        OSError: they cannot be written, as on a full disk; a line may be there in part, which readers leave out.
    """
    content = "".join(json.dumps(with_checksum(row)) + "\n" for row in rows).encode()
    with _named(path), path.open("ab", buffering=0) as file:
        while content:  # a disk may take a part, and refuse the rest
            content = content[file.write(content) :]
        os.fsync(file.fileno())


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object that carries its checksum, so that a flipped bit does not go unnoticed."""
    return {**content, CHECKSUM: _checksum(content)}


def without_checksum(content: dict[str, Any], known: Iterable[str] | None = None) -> dict[str, Any]:
    """What `with_checksum` was given. An object without a checksum, of an earlier version, is taken as it is.

    Args:
        content: as it was read.
        known: all names that it may have; without a checksum, the only sign of a damaged name.

    Raises:
        ValueError: the checksum is that of something else, or a name is unknown.
    """
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    if known is not None and (unknown := sorted(rest.keys() - set(known))):
        raise ValueError(f"an unknown entry {unknown[0]!r}")
    if CHECKSUM in content and content[CHECKSUM] != _checksum(rest):
        raise ValueError(f"damaged or edited: its content has not the {CHECKSUM} that it carries")
    return rest


def _checksum(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content).encode()):08x}"


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors inside name the file and the way out."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path}: cannot be written ({error.strerror or error}); make room for it, and give the command again"
        ) from error


def flush_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk, so that a rename in it outlives a power cut; where folders can be flushed.

    Raises:
        OSError: they can be, and the disk fails.
    """
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in UNFLUSHED:
            raise


def write_json(path: Path, content: Any) -> None:
    """Writes JSON of ours: an object carries its checksum, and so does each object in a list."""
    if isinstance(content, dict):
        content = with_checksum(content)
    elif isinstance(content, list):
        content = [with_checksum(item) if isinstance(item, dict) else item for item in content]
    write_plain_json(path, content)


def write_plain_json(path: Path, content: Any) -> None:
    """Writes JSON as it is, in a form that others laid down, or for people to change."""
    write_file(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, kind: type[dict[str, Any]] | type[list[Any]] = dict) -> Any:
    """The content of a JSON file whose outermost value is of that kind, without the checksums that it may carry.

    Raises:
        ValueError: the file is missing, damaged, is not JSON, or holds another kind of value.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing; put it back, or make it again") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({_first_line(error)}); put it back, or make it again") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path}: holds {type(content).__name__}, must hold {kind.__name__}; put it back")
    try:
        if isinstance(content, dict):
            return without_checksum(content)
        return [without_checksum(item) if isinstance(item, dict) else item for item in content]
    except ValueError as error:
        raise ValueError(f"{path}: {error}; put it back, or make it again") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last line that a kill cut short is no row. No file, no rows.

    Raises:
        ValueError: a line is not a JSON object; the message names it.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: line {number} is not JSON ({_first_line(error)}); put the file back") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} holds {type(row).__name__}, must be an object; put the file back")
        try:
            rows.append(without_checksum(row))
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is {error}; put the file back") from error
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    write_file(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def check_writable(path: Path) -> None:
    """Raises OSError with the way out, before any work, if a folder can't be made or written to; leaves none behind."""
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):  # several processes may try at once
            pass
    except OSError as error:
        raise OSError(f"{path}: cannot be written to ({error.strerror or error}); choose another --out") from error


def make_writable_folder(path: Path) -> None:
    """Makes the folder; raises OSError with the way out, before any work, if it can't be made or written to."""
    check_writable(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path}: cannot be made ({error.strerror or error}); choose another --out") from error


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """This process alone works in the folder inside; a kill ends that, too.

    Raises:
        OSError: another process is at work there.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise OSError(f"{folder}: another process is at work there; let it end, or choose another --out") from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
