"""The ledger: one row per image, written as the evaluation goes; and the summary that follows from its rows.

Row, in ledger.jsonl:
    index, label, prediction   of the image in its data set; the clean prediction, float32
    broken_by                  null, "clean" (misclassified as it is) or the first attack in order that breaks it
    attacks                    by name: {"broken", "restart", "step", "linf", "l2"}, the last four null unless broken;
                               an attack that did not run on the image (it was broken already) has no entry
"""

import json
import math
from pathlib import Path
from typing import Any

from bpfc.files import read_jsonl, write_json

Row = dict[str, Any]

SCHEMA = 1
"""Version of ledger and summary."""


class Ledger:
    """The file ledger.jsonl in a folder, beside evaluation.json, which says what the rows are rows of."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Opens the ledger of an evaluation, with the rows that an earlier, killed one of the same settings wrote.

        Raises:
            ValueError: the folder holds an evaluation of other settings.
        """
        self.path = folder / "ledger.jsonl"
        header = folder / "evaluation.json"
        settings = json.loads(json.dumps(settings))
        if header.exists():
            before = json.loads(header.read_text())
            if changed := [name for name in settings if before.get(name) != settings[name]]:
                told = "; ".join(f"{name} was {before.get(name)!r}, is {settings[name]!r}" for name in changed)
                raise ValueError(f"{folder}: holds an evaluation of other settings ({told}); choose another --out")
        else:
            write_json(header, settings)
        self.rows: list[Row] = read_jsonl(self.path)
        whole = sum(len(json.dumps(row)) + 1 for row in self.rows)
        if self.path.exists() and self.path.stat().st_size > whole:
            with self.path.open("rb+") as file:  # a kill cut the last line short
                file.truncate(whole)

    def append(self, rows: list[Row]) -> None:
        """Adds rows, on disk before this returns."""
        with self.path.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        self.rows += rows


def summarise(rows: list[Row], attacks: list[str]) -> dict[str, Any]:
    """Accuracies with their 95 % intervals, as shares of all images: clean, under each attack, and the worst case.

    The worst case is the mean over images of the minimum over attacks: an image counts as robust if it is classified
    rightly and no attack breaks it.
    """
    total = len(rows)
    right = [row["label"] == row["prediction"] for row in rows]

    def stands(row: Row, name: str) -> bool:
        # No entry: an earlier attack had broken the image, so under the attacks up to this one it does not stand.
        return bool(name in row["attacks"] and not row["attacks"][name]["broken"])

    return {
        "schema": SCHEMA,
        "images": total,
        "clean": _share(sum(right), total),
        "attacks": {name: _share(sum(stands(row, name) for row in rows), total) for name in attacks},
        "worst_case": _share(sum(row["broken_by"] is None for row in rows), total),
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
