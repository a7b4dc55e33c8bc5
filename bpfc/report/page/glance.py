"""What the first figures of a page show: networks of one data set on the same images, under the same attacks."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from bpfc.ledger import wilson_interval
from bpfc.report.page.proofs import PROVEN, proofs
from bpfc.report.page.records import Record
from bpfc.report.page.svg import STYLES
from bpfc.report.page.tables import Denominator, denominator, shown

WORST = "worst of a suite"


class Glance(NamedTuple):
    """The first figure of a data set.

    Attributes:
        about: which images are counted, and ε.
        rows: label, and by attack the share with the ends of its interval.
        missing: who is not in it, having met other images or another ε alone.
    """

    about: str
    rows: list[tuple[str, dict[str, tuple[float, float, float]]]]
    missing: list[str]


def glances(records: Sequence[Record]) -> list[Glance]:
    """A first figure for each data set."""
    every = dict.fromkeys(record.data for record in records)
    found = [glance([record for record in records if record.data == data]) for data in every]
    return [each for each in found if each.rows]


def glance(records: Sequence[Record]) -> Glance:
    """Of the set of images that most networks were attacked on, and the attacks most were met by.

    What stands after a suite, and what is certified, is shown wherever it is known. Where nothing was attacked, the
    images are those that most networks were certified on.
    """
    groups: dict[Denominator, dict[str, dict[str, dict[str, Any]]]] = {}
    for record in records:
        for item in record.evaluations:
            row = groups.setdefault(denominator(record, item), {}).setdefault(record.titled, {})
            row |= {"clean": item.summary["clean"]}
            if not item.cascade:
                row |= {name: share for name, share in item.attacks.items() if name not in row}
                continue
            worst = item.summary["worst_case"]
            if WORST not in row or worst["accuracy"] < row[WORST]["accuracy"]:
                row[WORST] = worst
            if "between" in item.summary:
                share = item.summary["between"]["certified"]
                row[PROVEN] = {
                    "accuracy": share,
                    "interval_95": wilson_interval(round(share * item.images), item.images),
                }
    if not groups:
        for record in records:
            for of, content in proofs(record):
                shares = {"clean": content["clean"], PROVEN: content["certified"]}
                groups.setdefault(of, {}).setdefault(record.titled, shares)
    if not groups:
        return Glance("", [], [])
    of, rows = max(groups.items(), key=lambda entry: (len(entry[1]), entry[0][3]))
    counts = Counter(name for row in rows.values() for name in row if name not in ("clean", WORST, PROVEN))
    common = [name for name, count in counts.items() if count == max(counts.values())]
    order = ["clean", *common[: STYLES - 3], WORST, PROVEN]
    picked = [
        (label, {name: (row[name]["accuracy"], *row[name]["interval_95"]) for name in order if name in row})
        for label, row in rows.items()
    ]
    met = [record.titled for record in records if record.evaluations or record.certifications]
    return Glance(shown(of), picked, [name for name in met if name not in rows])
