"""What an audit keeps in its folder to go on from: what decides it, and a line for each attack that has run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpfc.files import append_lines, read_json, read_jsonl, with_checksum, without_checksum, write_json, write_jsonl
from bpfc.resumed import FIRST, near

SCHEMA = 2
"""Of audit.json and of what is kept."""

KEPT = ("probe", "settings", "images", "eps", "found", "seconds")
"""What is kept of an attack; `images`, a checksum of those it ran on, not by earlier versions."""


def started_in(folder: Path) -> Path:
    """The file that tells with which settings an audit in the folder began."""
    return folder / "measured.json"


def open_kept(folder: Path, decides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What an audit of the same left in the folder, by attack.

    Raises:
        ValueError: the folder holds an audit of something else, or a damaged line.
    """
    path, measured = started_in(folder), _attacks_in(folder)
    mine = json.loads(json.dumps({"schema": SCHEMA, **decides}))
    if path.exists():
        before = read_json(path)
        if near(before.get(FIRST), mine.get(FIRST)):
            before[FIRST] = mine.get(FIRST)
        changed = [name for name in {**before, **mine} if before.get(name) != mine.get(name)]
        if changed:
            told = "; ".join(f"{name} was {before.get(name)!r}, is {mine.get(name)!r}" for name in changed)
            raise ValueError(f"{folder}: holds an audit of something else ({told}); choose another --out")
    elif measured.exists():
        raise ValueError(f"{measured}: without {path.name} beside it nobody knows what it is of; choose another --out")
    write_json(path, mine)
    kept: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(read_jsonl(measured), start=1):
        try:
            kept[line["probe"]] = without_checksum(line, KEPT)
            _check(line)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{measured}, line {number}: not what an attack left ({error!r}); put the file back as it was, or "
                "choose another --out"
            ) from error
    # Without a last line that a kill cut short, and without doubles.
    write_jsonl(measured, [with_checksum(line) for line in kept.values()])
    return kept


def _check(line: Mapping[str, Any]) -> None:
    """Raises an error for a line of another form."""
    if not isinstance(line["probe"], str) or not isinstance(line["settings"], str):
        raise ValueError(f"probe {line['probe']!r}, settings {line['settings']!r}")
    indices = [index for index, *_ in line["found"]]
    if len(set(indices)) < len(indices) or not all(type(index) is int and index >= 0 for index in indices):
        raise ValueError("an image twice, or none")


def keep(folder: Path, line: dict[str, Any]) -> None:
    """Adds what an attack did, on disk before this returns."""
    append_lines(_attacks_in(folder), [line])


def _attacks_in(folder: Path) -> Path:
    return folder / "measured.jsonl"
