"""The ledger: one row per image, written as the evaluation goes; and the summary that follows from its rows."""

import csv
import json
import math
import shutil
import statistics
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, get_args

from bpfc.attacks import Norm
from bpfc.files import append_lines, with_checksum, without_checksum, write_file, write_json, write_jsonl

SCHEMA = 3
"""Version of header, rows and summary."""


Blind = Literal["zero", "not_finite"]
"""What a gradient can be, so that attacks by gradients see nothing."""


class Verdict(TypedDict):
    """What an attack did to an image. The distances are those of the image that broke the network."""

    broken: bool
    restart: int | None
    """Which random start; None where nothing was found."""
    step: int | None
    """After how many steps; None where nothing was found, or the attack does not tell."""
    linf: float | None
    l2: float | None
    queries: int | None
    """Forwards spent on this image; None where the attack does not tell."""
    found: NotRequired[bool]
    """Of an attack without a radius: whether it found a misclassified image. Then the distances are the nearest's."""
    no_answer: NotRequired[bool]
    """True where the recorded image gets NaN or infinite logits."""


class Row(TypedDict):
    """A line of ledger.jsonl."""

    index: int
    """Of the image in its data set."""
    label: int
    prediction: int
    """For the clean image, in float32."""
    broken_by: str | None
    """None, "clean" (misclassified as it is) or the first attack in order that breaks it."""
    attacks: dict[str, Verdict]
    """By name. An attack that did not run on the image (it was broken already) has no entry."""
    gradient: NotRequired[Blind]
    """Of cross-entropy at the clean image, where attacks by gradients see nothing in it."""


class Ledger:
    """The file ledger.jsonl in a folder, beside evaluation.json: what the rows are rows of, and what attacks warned of.

    Attributes:
        warnings: of the attacks so far, each once.
    """

    def __init__(self, folder: Path, header: dict[str, Any], labels: Sequence[int], attacks: Sequence[str]) -> None:
        """Opens the ledger of an evaluation, with the rows that an earlier one of the same header wrote.

        That one may have been killed, or meant for fewer images: header["images"] may grow.

        Args:
            folder: of both files; it must be there.
            header: what decides a row: of the plan and of the subject.
            labels: of all images, by their index.
            attacks: the names in the rows, in the order in which they run.

        Raises:
            ValueError: the folder holds an evaluation of another header or schema, or of more images; or a row that is
                not one of this evaluation. The message names the file and the line.
        """
        self.path = folder / "ledger.jsonl"
        self.warnings: list[str] = []
        self._header_path = folder / "evaluation.json"
        self._header = json.loads(json.dumps({"schema": SCHEMA} | header))
        self._labels, self._attacks = labels, list(attacks)
        self._check_header()
        self._rows = {row["index"]: row for row in read_rows(self.path, labels, attacks)}
        self._cut()
        self._write_header()

    @property
    def rows(self) -> list[Row]:
        """One for each image so far, by index."""
        return [self._rows[index] for index in sorted(self._rows)]

    @property
    def missing(self) -> list[int]:
        """The indices that have no row yet."""
        return [index for index in range(len(self._labels)) if index not in self._rows]

    def append(self, rows: Iterable[Row], warnings: Iterable[str] = ()) -> None:
        """Adds the rows of images that have none, and what attacks warned of meanwhile, on disk before this returns."""
        told = sorted({*self.warnings, *warnings})
        if told != self.warnings:
            self.warnings = told
            self._write_header()
        new = {row["index"]: row for row in rows if row["index"] not in self._rows}
        append_lines(self.path, new.values())
        self._rows |= new

    def absorb(self, shards: Sequence[Path]) -> None:
        """Takes over the rows and warnings of ledgers of the same evaluation, in the order of the images, then removes
        their folders. A kill at any moment loses nothing.

        Raises:
            ValueError: one of them is of something else, or has a row of another image; the message names it.
        """
        if not shards:
            return
        for folder in shards:
            shard = Ledger(folder, self._header, self._labels, self._attacks)
            self._rows = shard._rows | self._rows
            self.warnings = sorted({*self.warnings, *shard.warnings})
        self._write_header()
        write_jsonl(self.path, [with_checksum(row) for row in self.rows])
        for folder in shards:
            shutil.rmtree(folder)

    def _check_header(self) -> None:
        path, now = self._header_path, self._header
        if not path.exists():
            if self.path.exists() and self.path.stat().st_size:
                raise ValueError(f"{self.path}: has rows, but no {path.name} says of what; choose another --out")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: cannot be read ({error}); choose another --out") from error
        found = before.get("schema") if isinstance(before, dict) else None
        if found != SCHEMA:
            raise ValueError(
                f"{path}: of schema {found or 'none, as versions before 3 wrote it'}, this version writes {SCHEMA}; "
                "choose another --out, or go on with the version that began it"
            )
        if isinstance(heard := before.pop("warnings", None), list):
            self.warnings = [str(told) for told in heard]
        old, new = _flat(before), _flat(now)
        changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if changed == ["images"] and isinstance(old.get("images"), int) and old["images"] < new["images"]:
            changed = []
        if changed:
            told = "; ".join(f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in changed)
            raise ValueError(f"{path.parent}: holds an evaluation of other settings ({told}); choose another --out")

    def _cut(self) -> None:
        """Takes off the end of a line that a kill or a full disk cut short."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        if (whole := content.rfind(b"\n") + 1) < len(content):
            with self.path.open("rb+") as file:
                file.truncate(whole)

    def _write_header(self) -> None:
        write_json(self._header_path, self._header | {"warnings": self.warnings})


def read_rows(path: Path, labels: Sequence[int], attacks: Sequence[str]) -> list[Row]:
    """The rows of a ledger; a last line that a kill cut short is no row. No file, no rows.

    Args:
        path: of ledger.jsonl.
        labels: of all images, by their index.
        attacks: the names in the rows, in the order in which they run.

    Raises:
        ValueError: a row disagrees with the data, with the other rows or with itself; the message names its line.
    """
    rows: dict[int, Row] = {}
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            content = without_checksum(json.loads(line), Row.__annotations__)
            row = Row(**content)  # type: ignore[typeddict-item]
            _check_row(row, rows, labels, list(attacks))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            told = error if type(error) is ValueError else f"not a row ({error!r})"
            raise ValueError(
                f"{path}, line {number}: {told}; put the file back as it was, or choose another --out"
            ) from error
        rows[row["index"]] = row
    return list(rows.values())


def _check_row(row: Row, rows: Mapping[int, Row], labels: Sequence[int], attacks: list[str]) -> None:
    """Raises ValueError for a row that disagrees with the data, with the rows before it or with itself."""
    index, broken_by, verdicts = row["index"], row["broken_by"], row["attacks"]
    if type(index) is not int or not 0 <= index < len(labels):
        raise ValueError(f"index {index!r}, must be from 0 to {len(labels) - 1}")
    if index in rows:
        raise ValueError(f"a second row of image {index}")
    if row["label"] != labels[index]:
        raise ValueError(f"label {row['label']!r}, but image {index} has {labels[index]}")
    if any(type(verdict["broken"]) is not bool for verdict in verdicts.values()):
        raise ValueError("a verdict that is neither true nor false")
    breaking = [name for name, verdict in verdicts.items() if verdict["broken"]]
    right = row["prediction"] == row["label"]
    expected = (breaking[0] if breaking else None) if right else "clean"
    if broken_by != expected:
        raise ValueError(f"broken by {broken_by!r}, but its verdicts say {expected!r}")
    # What broke the image may have been the last to run on it; what nothing broke has met them all.
    ran = attacks if right and not breaking else attacks[: len(verdicts)]
    if list(verdicts) != ran or (verdicts and not right):
        raise ValueError(f"verdicts of {', '.join(verdicts) or 'no attack'}, where {', '.join(ran)} ran")
    if any(each.get("found", each["broken"]) != (each["linf"] is not None) for each in verdicts.values()):
        raise ValueError("a distance of nothing that was found, or none of what was found")


def _flat(header: dict[str, Any]) -> dict[str, Any]:
    """With the entries of a dictionary inside under names such as attack_settings.fgsm."""
    inside = {name: value for name, value in header.items() if isinstance(value, dict)}
    plain = {name: value for name, value in header.items() if name not in inside}
    return plain | {f"{name}.{key}": value for name, part in inside.items() for key, value in part.items()}


def write_csv(path: Path, rows: Sequence[Row], attacks: Sequence[str]) -> None:
    """The ledger as a table: a line for each image, a column for each thing that is known of it."""
    entries = [name for row in rows for verdict in row["attacks"].values() for name in verdict]
    kinds = sorted(set(entries), key=entries.index)
    columns = [f"{attack}.{kind}" for attack in attacks for kind in kinds]

    content = StringIO(newline="")
    table = csv.writer(content)
    table.writerow(["index", "label", "prediction", "broken_by", *columns])
    for row in rows:
        verdicts: Mapping[str, Mapping[str, Any]] = row["attacks"]
        cells = [verdicts.get(attack, {}).get(kind) for attack in attacks for kind in kinds]
        table.writerow([row["index"], row["label"], row["prediction"], row["broken_by"], *cells])
    write_file(path, content.getvalue().encode())


def summarise(
    rows: list[Row], attacks: Sequence[str], minimum_norm: Mapping[str, Norm] | None = None
) -> dict[str, Any]:
    """Accuracies with their 95 % intervals, as shares of all images: clean, under each attack, and the worst case.

    The worst case is the mean over images of the minimum over attacks: an image counts as robust if it is classified
    rightly and no attack breaks it. `minimum_norm` names the attacks without a radius and the norm of their distances:
    for these, also the share of the attacked images for which one was found, and the median and mean distance of what
    was found (in the median, a failure is infinitely far: null). `gradients` counts the images at which attacks by
    gradients are blind (see Row).
    """
    total = len(rows)
    right = [row["label"] == row["prediction"] for row in rows]

    def stands(row: Row, name: str) -> bool:
        # No entry: an earlier attack had broken the image, so under the attacks up to this one it does not stand.
        return name in row["attacks"] and not row["attacks"][name]["broken"]

    shares = {name: _share(sum(stands(row, name) for row in rows), total) for name in attacks}
    for name, norm in (minimum_norm or {}).items():
        shares[name] |= _distances([row["attacks"][name] for row in rows if name in row["attacks"]], norm)
    return {
        "schema": SCHEMA,
        "images": total,
        "clean": _share(sum(right), total),
        "attacks": shares,
        "worst_case": _share(sum(row["broken_by"] is None for row in rows), total),
        "gradients": {kind: sum(row.get("gradient") == kind for row in rows) for kind in get_args(Blind)},
    }


def _distances(verdicts: list[Verdict], norm: Norm) -> dict[str, Any]:
    found = [distance for verdict in verdicts if (distance := verdict[norm]) is not None]
    middle = statistics.median([*found, *[math.inf] * (len(verdicts) - len(found))]) if verdicts else math.inf
    return {
        "attacked": len(verdicts),
        "success": len(found) / len(verdicts) if verdicts else None,
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
