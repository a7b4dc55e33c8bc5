"""What an audit keeps in its folder to go on from: what decides it, and a line for each attack that has run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpfc.files import append_lines, read_json, read_jsonl, with_checksum, without_checksum, write_json, write_jsonl

SCHEMA = 2
"""Of audit.json and of what is kept."""

KEPT = ("probe", "settings", "eps", "found", "seconds")
"""What is kept of an attack."""


def open_kept(folder: Path, decides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What an audit of the same left in the folder, by attack.

    Raises:
        ValueError: the folder holds an audit of something else, or a damaged line.
    """
    path = folder / "measured.json"
    mine = json.loads(json.dumps({"schema": SCHEMA, **decides}))
    if path.exists():
        before = read_json(path)
        changed = [name for name in {**before, **mine} if before.get(name) != mine.get(name)]
        if changed:
            told = "; ".join(f"{name} was {before.get(name)!r}, is {mine.get(name)!r}" for name in changed)
            raise ValueError(f"{folder}: holds an audit of something else ({told}); choose another --out")
    write_json(path, mine)
    measured = folder / "measured.jsonl"
    try:
        lines = [without_checksum(line, KEPT) for line in read_jsonl(measured)]
    except ValueError as error:
        raise ValueError(f"{measured}: {error}; put the file back as it was, or choose another --out") from error
    # Without a last line that a kill cut short.
    write_jsonl(measured, [with_checksum(line) for line in lines])
    return {line["probe"]: line for line in lines}


def keep(folder: Path, line: dict[str, Any]) -> None:
    """Adds what an attack did, on disk before this returns."""
    append_lines(folder / "measured.jsonl", [line])
