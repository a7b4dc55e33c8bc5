"""Writing files so that a kill leaves the old one or the new one, never half of one."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary name beside `path`, flushes what it wrote to disk, and renames it to `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last line that a kill cut short is no row. No file, no rows."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    replace_file(path, lambda temporary: temporary.write_text("".join(json.dumps(row) + "\n" for row in rows)))


def make_writable_folder(path: Path) -> None:
    """Makes the folder; raises OSError with the way out, before any work, if it can't be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # several processes may try at once
            pass
    except OSError as error:
        raise OSError(f"{path}: cannot be written to ({error.strerror or error}); choose another --out") from error
