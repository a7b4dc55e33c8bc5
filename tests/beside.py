"""What a second process does beside the tests of files. Imports little, so that it begins at once."""

import multiprocessing
import os
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from safetensors.numpy import load_file

from bpfc.files import append_lines, read_json, read_jsonl, write_json


def write(folder: Path, enough: Event) -> None:
    """Writes one file anew and adds to another, until the reader has seen enough of them."""
    os.fsync = lambda _: None  # type: ignore[assignment] # a busy disk takes its time, and a reader asks none
    turn = 0
    parent = multiprocessing.parent_process()
    assert parent is not None
    while not enough.is_set() and parent.is_alive():
        write_json(folder / "some.json", {"turn": turn, "text": "x" * 50_000})
        append_lines(folder / "some.jsonl", [{"turn": turn, "text": "y" * 5_000}])
        turn += 1


def look(folder: Path, begun: Event, ended: Event, found: "Queue[tuple[set[str], list[str]]]") -> None:
    """Reads whatever stands in the folder, again and again; gives back what was read, and what was read in part."""
    seen, halves, last = set[str](), list[str](), False
    begun.set()
    while not last:
        last = ended.wait(0.01)  # once more after the end, so that on a busy machine all were read
        every = [Path(place, name) for place, _, names in os.walk(folder) for name in names]  # past folders that go
        for path in (path for path in every if ".tmp" not in str(path.relative_to(folder))):
            try:
                if path.suffix == ".json":
                    read_json(path, list if path.name == "provenance.json" else dict)
                elif path.suffix == ".jsonl":
                    read_jsonl(path)
                elif path.suffix == ".safetensors":
                    load_file(path)
                seen.add(path.name)
            except FileNotFoundError:  # an older state goes
                continue
            except Exception as error:
                if "missing" not in str(error) and path.exists():
                    halves.append(f"{path}: {error}")
    found.put((seen, halves))
