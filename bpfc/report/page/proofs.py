"""What is proven of networks, as tables."""

from collections.abc import Sequence
from typing import Any

from bpfc.report.page.records import Record
from bpfc.report.page.tables import CLASS, Cell, Denominator, Table, cell, class_cell, shown

PROVEN = "certified"


def proofs(record: Record) -> list[tuple[Denominator, dict[str, Any]]]:
    """Its certifications, each with the images that it counts."""
    return [
        ((record.data, content.get("norm", "linf"), float(content["eps"]), int(content["images"])), content)
        for content in record.certifications.values()
    ]


def certificate_tables(records: Sequence[Record]) -> list[Table]:
    """What is proven: a table for each set of images, the largest first; a row a network."""
    groups: dict[Denominator, dict[str, dict[str, dict[str, Any]]]] = {}
    classes: dict[str, Cell] = {}
    for record in records:
        for (of, content), name in zip(proofs(record), record.certifications, strict=True):
            rows = groups.setdefault(of, {})
            label = f"{record.label} ({name})" if record.label in rows else record.label
            methods = content.get("methods", {})
            rows[label], classes[label] = (
                {"clean": content["clean"], PROVEN: content["certified"], **methods},
                class_cell(record),
            )
    found = []
    for of, rows in sorted(groups.items(), key=lambda entry: -entry[0][3]):
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        body = [(label, [classes[label], *(cell(row.get(name)) for name in names)]) for label, row in rows.items()]
        told = (
            "In %; below it the 95 % interval (Wilson). Certified is proven by any way of bounding beside it: no "
            f"attack within ε can get below it. {CLASS}"
        )
        found.append(Table(f"Certified, {shown(of)}", ["", "class", *names], body, [told]))
    return found
