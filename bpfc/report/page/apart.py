"""What a folder tells, as a record for each network and data set: no table, figure or picture may mix them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bpfc.errors import UserError
from bpfc.report.page.records import Record


def apart(record: Record) -> list[Record]:
    """The records of the networks and data sets that a folder speaks of.

    A run's own comes first, with all that is of its data set, whatever the weights: the page says if they differ. What
    else lies there, and all in a folder without a run, such as that of a transfer, goes by its data set and weights.
    """

    def of(content: dict[str, Any]) -> tuple[str, str | None]:
        data = str(content.get("data", record.data))
        own = record.recipe is not None and data == record.data
        return data, None if own else content.get("weights_sha256")

    own = None if record.recipe is None else (record.data, None)
    names: dict[tuple[str, str | None], list[str]] = {own: []} if own else {}
    for name, content in record.contents:
        names.setdefault(of(content), []).append(name)
    if len(names) == 1:
        return [record]
    found = []
    for key, there in names.items():
        part = replace(
            record,
            evaluations=[item for item in record.evaluations if of(item.summary) == key],
            certifications={name: content for name, content in record.certifications.items() if of(content) == key},
            audits={name: content for name, content in record.audits.items() if of(content) == key},
        )
        if key != own:
            label = f"{record.label}, {', '.join(dict.fromkeys(there))}"
            part = replace(part, label=label, recipe=None, log=[], starts=[], class_names=())
        found.append(part)
    return found


def check_images(records: Iterable[Record]) -> None:
    """Raises UserError where data of one name held other images for one thing than for another."""
    known: dict[str, tuple[str, str]] = {}
    for record in records:
        for name, content in record.contents:
            data, digest, where = content.get("data"), content.get("data_sha256"), f"{record.folder}, {name}"
            if data and digest and known.setdefault(data, (digest, where))[0] != digest:
                raise UserError(
                    f"{where}: of other images than {known[data][1]}, though both are of {data}; make a page of each"
                )
