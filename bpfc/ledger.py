"""The ledger: one row per image, written as the evaluation goes; and the summary that follows from its rows.

Row, in ledger.jsonl:
    index, label, prediction   of the image in its data set; the clean prediction, float32
    broken_by                  null, "clean" (misclassified as it is) or the first attack in order that breaks it
    attacks                    by name: {"broken", "restart", "step", "linf", "l2", "queries"}. The distances are those
                               of the image that broke the network, null where none did; queries are the forwards spent
                               on this image, null where an attack does not tell. An attack without a radius has "found"
                               as well, and the distances are those of the nearest misclassified image it found. An
                               attack that did not run on the image (it was broken already) has no entry
"""

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bpfc.attacks import Norm
from bpfc.files import read_jsonl, replace_file, write_json

Row = dict[str, Any]

SCHEMA = 2
"""Version of ledger and summary."""


class Ledger:
    """The file ledger.jsonl in a folder, beside evaluation.json: what the rows are rows of, and what attacks warned of.

    Attributes:
        rows: one for each image so far.
        warnings: of the attacks so far, each once.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Opens the ledger of an evaluation, with the rows that an earlier one of the same settings wrote.

        That one may have been killed, or meant for fewer images: settings["images"] may grow.

        Raises:
            ValueError: the folder holds an evaluation of other settings, or of more images.
        """
        self.path = folder / "ledger.jsonl"
        self._header = folder / "evaluation.json"
        self._settings = settings = json.loads(json.dumps(settings))
        self.warnings: list[str] = []
        if self._header.exists():
            before = json.loads(self._header.read_text())
            changed = [name for name in settings if before.get(name) != settings[name]]
            if changed == ["images"] and before["images"] < settings["images"]:
                changed = []
            if changed:
                told = "; ".join(f"{name} was {before.get(name)!r}, is {settings[name]!r}" for name in changed)
                raise ValueError(f"{folder}: holds an evaluation of other settings ({told}); choose another --out")
            self.warnings = before.get("warnings", [])
        self._write_header()
        self.rows: list[Row] = read_jsonl(self.path)
        whole = sum(len(json.dumps(row)) + 1 for row in self.rows)
        if self.path.exists() and self.path.stat().st_size > whole:
            with self.path.open("rb+") as file:  # a kill cut the last line short
                file.truncate(whole)

    def append(self, rows: list[Row], warnings: Iterable[str] = ()) -> None:
        """Adds rows, and what attacks warned of meanwhile, on disk before this returns."""
        told = sorted({*self.warnings, *warnings})
        if told != self.warnings:
            self.warnings = told
            self._write_header()
        with self.path.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        self.rows += rows

    def _write_header(self) -> None:
        write_json(self._header, self._settings | {"warnings": self.warnings})


def write_csv(path: Path, rows: Sequence[Row], attacks: Sequence[str]) -> None:
    """The ledger as a table: a line for each image, a column for each thing that is known of it."""
    entries = [name for row in rows for entry in row["attacks"].values() for name in entry]
    kinds = sorted(set(entries), key=entries.index)
    columns = [f"{attack}.{kind}" for attack in attacks for kind in kinds]

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["index", "label", "prediction", "broken_by", *columns])
            for row in rows:
                cells = [row["attacks"].get(attack, {}).get(kind) for attack in attacks for kind in kinds]
                table.writerow([row["index"], row["label"], row["prediction"], row["broken_by"], *cells])

    replace_file(path, write)


def summarise(rows: list[Row], attacks: Sequence[str], nearest: Mapping[str, Norm] | None = None) -> dict[str, Any]:
    """Accuracies with their 95 % intervals, as shares of all images: clean, under each attack, and the worst case.

    The worst case is the mean over images of the minimum over attacks: an image counts as robust if it is classified
    rightly and no attack breaks it. `nearest` names the attacks without a radius and the norm of their distances: for
    these, also the share of the attacked images for which one was found, and the median and mean distance of what was
    found (in the median, a failure is infinitely far: null).
    """
    total = len(rows)
    right = [row["label"] == row["prediction"] for row in rows]

    def stands(row: Row, name: str) -> bool:
        # No entry: an earlier attack had broken the image, so under the attacks up to this one it does not stand.
        return bool(name in row["attacks"] and not row["attacks"][name]["broken"])

    shares = {name: _share(sum(stands(row, name) for row in rows), total) for name in attacks}
    for name, norm in (nearest or {}).items():
        shares[name] |= _distances([row["attacks"][name] for row in rows if name in row["attacks"]], norm)
    return {
        "schema": SCHEMA,
        "images": total,
        "clean": _share(sum(right), total),
        "attacks": shares,
        "worst_case": _share(sum(row["broken_by"] is None for row in rows), total),
    }


def _distances(entries: list[dict[str, Any]], norm: Norm) -> dict[str, Any]:
    found = [entry[norm] for entry in entries if entry["found"]]
    middle = statistics.median([*found, *[math.inf] * (len(entries) - len(found))]) if entries else math.inf
    return {
        "attacked": len(entries),
        "success": len(found) / len(entries) if entries else None,
        f"median_{norm}": round(middle, 6) if math.isfinite(middle) else None,
        f"mean_{norm}": round(statistics.fmean(found), 6) if found else None,
    }


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927), which also holds near 0 and 1."""
    z = 1.959963984540054
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def _share(successes: int, total: int) -> dict[str, Any]:
    low, high = wilson_interval(successes, total)
    return {"accuracy": successes / total, "interval_95": [round(low, 6), round(high, 6)]}
