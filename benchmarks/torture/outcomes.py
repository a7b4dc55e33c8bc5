"""What a verb leaves, as digests that can be compared; the counts of how trials ended."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from bpfc.files import read_jsonl

Trial = dict[str, Any]
"""How a trial ended (`end`), what it belongs to in the table (`row`), and the command that shows it."""

VARYING = {"seconds", "images_resumed", "provenance", "images_per_second", "peak_memory_mib", "crc32", "sha256"}
"""What no two runs have alike, and the checksums that cover it."""
ENDS = ("tried", "right", "told", "wrong", "lost", "traceback")
BAD = ("wrong", "lost", "traceback")


def left(folder: Path) -> dict[str, str]:
    """Digests of the files in a folder, JSON without what varies."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in (".lock", "provenance.json"):
            continue
        if path.suffix == ".json":
            content = json.dumps(steady(json.loads(path.read_text()))).encode()
        elif path.suffix == ".jsonl":  # rows that were made again stand after the others
            content = json.dumps(sorted(json.dumps(steady(row)) for row in read_jsonl(path))).encode()
        else:
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def steady(content: Any) -> Any:
    """JSON without what varies."""
    if isinstance(content, dict):
        kept = {name: value for name, value in content.items() if name not in VARYING and not name.endswith("_seconds")}
        return {name: steady(value) for name, value in kept.items()}
    return [steady(item) for item in content] if isinstance(content, list) else content


def compare(there: dict[str, str], whole: dict[str, str], *, lost: bool) -> Trial:
    """How a trial ended whose verb came to its end and left `there`; `lost`: whether a missing file is lost work."""
    differing = sorted(name for name in {**there, **whole} if there.get(name) != whole.get(name))
    missing = any(name not in there for name in whole)
    return {"end": "right" if not differing else "lost" if missing and lost else "wrong", "differing": differing}


def summarise(trials: list[Trial]) -> dict[str, Any]:
    """Counts by row of the table, and the trials that ended badly."""
    ends: dict[str, Counter[str]] = {}
    for trial in trials:
        ends.setdefault(trial["row"], Counter()).update([trial["end"]])
    killed = [trial for trial in trials if trial["kind"] == "kill"]
    return {
        "kills": sum(len(trial["killed"]) for trial in killed),
        "attempted_kills": sum(trial["attempts"] for trial in killed),
        "operations": _operations(killed),
        "rows": {name: {"tried": sum(counts.values()), **counts} for name, counts in sorted(ends.items())},
        "bad": [trial for trial in trials if trial["end"] in BAD],
    }


def _operations(killed: list[Trial]) -> dict[str, list[int]]:
    """By verb, before how many of its operations on files a kill came, and how many it has."""
    found: dict[str, set[str]] = {}
    whole: dict[str, int] = {}
    for trial in killed:
        verb = trial["row"].removesuffix(" killed")
        found.setdefault(verb, set()).update(each for each in trial["killed"] if each.startswith("before"))
        whole[verb] = trial["operations"]
    return {verb: [len(found[verb]), whole[verb]] for verb in sorted(found)}


def print_table(summary: dict[str, Any]) -> None:
    print(f"{'':28}" + "".join(f"{name:>10}" for name in ENDS))
    for name, row in summary["rows"].items():
        print(f"{name:28}" + "".join(f"{row.get(end, 0):10}" for end in ENDS))
    print(f"{summary['attempted_kills']} kills attempted, {summary['kills']} came before the end")
    for trial in summary["bad"]:
        print(json.dumps(trial, ensure_ascii=False))
