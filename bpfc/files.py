"""Files that are whole or not there, read with errors that name them, in folders that one process owns at a time."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary name beside `path`, flushes what it wrote to disk, and renames it to `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    temporary.chmod(0o666 & ~_umask())  # safetensors leaves a file that its owner alone can read
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk, so that a rename in it outlives a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path, kind: type[dict[str, Any]] | type[list[Any]] = dict) -> Any:
    """The content of a JSON file whose outermost value is of that kind.

    Raises:
        ValueError: the file is missing, is not JSON, or holds another kind of value.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing; put it back, or make it again") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({_first_line(error)}); put it back, or make it again") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path}: holds {type(content).__name__}, must hold {kind.__name__}; put it back")
    return content


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
        rows.append(row)
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def make_writable_folder(path: Path) -> None:
    """Makes the folder; raises OSError with the way out, before any work, if it can't be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # several processes may try at once
            pass
    except OSError as error:
        raise OSError(f"{path}: cannot be written to ({error.strerror or error}); choose another --out") from error


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
