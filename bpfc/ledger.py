"""The ledger: one row per image, written as the evaluation goes; and the summary that follows from its rows."""

import csv
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, get_args

from bpfc.attacks import Norm
from bpfc.files import write_file
from bpfc.resumed import Kind, Resumed, read_rows

SCHEMA = 3
"""Version of header, rows and summary."""
HEADER, ROWS = "evaluation.json", "ledger.jsonl"
"""A ledger's files in its folder."""

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
    """Of cross-entropy at the clean image, where attacks by gradients see nothing in it. In a transfer it is that of
    the source; of several, of the last that shows nothing there."""
    certified_by: NotRequired[str | None]
    """Where certificates were at hand: what proves that nothing breaks the image. Then no attack has run on it."""
    margin_lower: NotRequired[float | None]
    """Likewise: the proven lower bound of logit_label − the largest other logit."""


def transferred(attack: str, source: str) -> str:
    """The name, in rows and tables, of an attack whose images were made on another network."""
    return f"{attack}@{source}"


def columns(header: Mapping[str, Any]) -> list[str]:
    """The attacks by their names in the rows beside a header: of a transfer, each once for every source."""
    plan = header["plan"] if "plan" in header else header["attacks"]  # as versions before 3 called them
    if not isinstance(plan, list):
        raise TypeError("the plan is no list of attacks")
    sources = header.get("sources_sha256")
    return [transferred(attack, source) for source in sources for attack in plan] if sources else list(plan)


class Ledger(Resumed[Row]):
    """The file ledger.jsonl in a folder, beside evaluation.json."""

    def __init__(self, folder: Path, header: dict[str, Any], labels: Sequence[int], attacks: Sequence[str]) -> None:
        """Opens the ledger of an evaluation; see Resumed.

        Args:
            folder, header, labels: as there; the header is of the plan and of the subject.
            attacks: the names in the rows, in the order in which they run.
        """
        kind = Kind("an evaluation", HEADER, ROWS, SCHEMA, Row, _check(attacks))
        super().__init__(folder, header, labels, kind)


def read_ledger(path: Path, labels: Sequence[int], attacks: Sequence[str]) -> list[Row]:
    """The rows of a ledger.jsonl, as Ledger reads them. No file, no rows.

    Raises:
        ValueError: a row disagrees with the data, with the other rows or with itself; the message names its line.
    """
    return read_rows(path, labels, Row, _check(attacks))


def _check(attacks: Sequence[str]) -> Callable[[Row], None]:
    """What raises ValueError for a row that disagrees with itself, or with the attacks in their order."""
    names = list(attacks)

    def check(row: Row) -> None:
        broken_by, verdicts = row["broken_by"], row["attacks"]
        if any(type(verdict["broken"]) is not bool for verdict in verdicts.values()):
            raise ValueError("a verdict that is neither true nor false")
        breaking = [name for name, verdict in verdicts.items() if verdict["broken"]]
        right = row["prediction"] == row["label"]
        expected = (breaking[0] if breaking else None) if right else "clean"
        if row.get("certified_by") is not None and not right:
            raise ValueError(f"certified by {row['certified_by']!r}, but it is misclassified as it is")
        if broken_by != expected:
            raise ValueError(f"broken by {broken_by!r}, but its verdicts say {expected!r}")
        # What broke the image may have been the last to run on it; what nothing broke has met them all.
        certified = row.get("certified_by") is not None
        ran = [] if certified else names if right and not breaking else names[: len(verdicts)]
        if list(verdicts) != ran or (verdicts and not right):
            raise ValueError(f"verdicts of {', '.join(verdicts) or 'no attack'}, where {', '.join(ran)} ran")
        if any(each.get("found", each["broken"]) != (each["linf"] is not None) for each in verdicts.values()):
            raise ValueError("a distance of nothing that was found, or none of what was found")

    return check


def write_csv(path: Path, rows: Sequence[Row], attacks: Sequence[str]) -> None:
    """The ledger as a table: a line for each image, a column for each thing that is known of it."""
    entries = [name for row in rows for verdict in row["attacks"].values() for name in verdict]
    kinds = sorted(set(entries), key=entries.index)
    columns = [f"{attack}.{kind}" for attack in attacks for kind in kinds]
    known = [name for name in ("gradient", "certified_by", "margin_lower") if any(name in row for row in rows)]

    content = StringIO(newline="")
    table = csv.writer(content)
    table.writerow(["index", "label", "prediction", "broken_by", *known, *columns])
    for row in rows:
        verdicts: Mapping[str, Mapping[str, Any]] = row["attacks"]
        beside = [row.get(name) for name in known]
        cells = [verdicts.get(attack, {}).get(kind) for attack in attacks for kind in kinds]
        table.writerow([row["index"], row["label"], row["prediction"], row["broken_by"], *beside, *cells])
    write_file(path, content.getvalue().encode())


def summarise(
    rows: list[Row], attacks: Sequence[str], minimum_norm: Mapping[str, Norm] | None = None
) -> dict[str, Any]:
    """Accuracies with their 95 % intervals, as shares of all images: clean, under each attack, and the worst case.

    The worst case is the mean over images of the minimum over attacks: an image counts as robust if it is classified
    rightly and no attack breaks it. `minimum_norm` names the attacks without a radius and the norm of their distances:
    for these, also the share of the attacked images for which one was found, and the median and mean distance of what
    was found (in the median, a failure is infinitely far: null); those that are certified are not attacked. `gradients`
    counts the images at which attacks by gradients are blind (see Row). Where certificates were at hand, `between` says
    what they and the attacks leave.

    Raises:
        ValueError: a row has no verdict of an attack that must have run on it, as where the names are of other rows.
    """
    total = len(rows)
    right = [row["label"] == row["prediction"] for row in rows]

    def stands(row: Row, name: str) -> bool:
        if row.get("certified_by") is not None:
            return True
        if name in row["attacks"]:
            return not row["attacks"][name]["broken"]
        if row["broken_by"] is None:
            raise ValueError(f"image {row['index']}: nothing broke it, but it has no verdict of {name}")
        return False  # an earlier attack had broken it, so under the attacks up to this one it does not stand

    shares = {name: _share(sum(stands(row, name) for row in rows), total) for name in attacks}
    for name, norm in (minimum_norm or {}).items():
        shares[name] |= _distances([row["attacks"][name] for row in rows if name in row["attacks"]], norm)
    proven = {"between": between(rows)} if any("certified_by" in row for row in rows) else {}
    return {
        "schema": SCHEMA,
        "images": total,
        "clean": _share(sum(right), total),
        "attacks": shares,
        "worst_case": _share(sum(row["broken_by"] is None for row in rows), total),
        "gradients": {kind: sum(row.get("gradient") == kind for row in rows) for kind in get_args(Blind)},
        **proven,
    }


def between(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Between which shares the robust accuracy lies, of rows that have met certificates and attacks.

    Gives:
        certified, not_broken: shares of all images, the proven lower and the attacks' upper bound.
        open: the share that is neither certified nor broken.
        interval_95: from the lower end of the 95 % interval of `certified` to the upper end of that of `not_broken`.
    """
    total = len(rows)
    certified = sum(row["certified_by"] is not None for row in rows)
    standing = sum(row["broken_by"] is None for row in rows)
    low, high = wilson_interval(certified, total)[0], wilson_interval(standing, total)[1]
    return {
        "certified": certified / total,
        "not_broken": standing / total,
        "open": (standing - certified) / total,
        "interval_95": [round(low, 6), round(high, 6)],
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
