"""By which name each run of a page is known."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from bpfc.report.figures import DATA
from bpfc.report.page.records import Record


def told_apart(records: Sequence[Record]) -> list[Record]:
    """Labels of which no two are alike: by what the trainings differ in, and by the folder where that is nothing."""
    found = list(records)
    for tell in TELLS:
        alike: dict[str, set[str]] = defaultdict(set)
        for record in found:
            alike[record.label].add(tell(record))
        found = [
            replace(record, label=f"{record.label}, {told}")
            if len(alike[record.label]) > 1 and (told := tell(record))
            else record
            for record in found
        ]
    return found


def without_seed(record: Record) -> str:
    """Its label, as that of all seeds of its recipe."""
    return record.label.replace(f", {_seed(record)}", "") if record.recipe else record.label


def _data(record: Record) -> str:
    return DATA.get(record.data, record.data)


def _epochs(record: Record) -> str:
    return f"{record.recipe['epochs']} epochs" if record.recipe else ""


def _seed(record: Record) -> str:
    return f"seed {record.recipe['seed']}" if record.recipe else ""


TELLS: tuple[Callable[[Record], str], ...] = (
    *(_data, _epochs, _seed),
    *(lambda record: record.name, lambda record: str(record.folder)),
)
"""Most telling first."""
