"""Tables of a page: networks under attacks on the same images, what a cascade leaves, and how networks were trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bpfc.evaluation.plan import SHOWN_NORMS
from bpfc.methods.classes import MEANINGS
from bpfc.report.captions import shown_images
from bpfc.report.figures import DATA, PRECISIONS, percent
from bpfc.report.page.records import Evaluated, Record


class Cell(NamedTuple):
    """A figure, and its 95 % interval below it."""

    figure: str
    interval: str = ""


@dataclass(frozen=True)
class Table:
    """Rows that all count the same images.

    Attributes:
        title: what they count.
        header: of the columns, the first for the rows' names.
        rows: name and cells.
        notes: what must be said below.
    """

    title: str
    header: list[str]
    rows: list[tuple[str, list[Cell]]]
    notes: list[str]


STANDARD = ("aa-apgd-ce", "aa-apgd-t", "aa-fab-t", "aa-square")
"""The parts of AutoAttack, in its order."""

Denominator = tuple[str, str, float, int]


def denominator(record: Record, item: Evaluated) -> Denominator:
    """What two figures must share to stand in one table: data, norm, ε, number of images."""
    return record.data, item.norm, item.eps, item.images


def shown(of: Denominator) -> str:
    data, norm, eps, images = of
    counted = shown_images({"data": data, "images": images})
    return f"{DATA.get(data, data)}, {SHOWN_NORMS[norm]} ε {eps:.4g}: {counted[0].lower()}{counted[1:]}"  # type: ignore[index]


CLASS = (
    "Class, from 0 to 5 (– where not known), is how close a training comes to adversarial examples: class 0 never "
    "takes the gradient by the image, class 5 trains on adversarial images."
)
NOT_KNOWN = "–"
"""The class of a model that was handed in."""


def class_cell(record: Record) -> Cell:
    return Cell(NOT_KNOWN if record.number is None else f"{record.number}")


def cell(share: dict[str, Any] | None) -> Cell:
    if share is None:
        return Cell("not run")
    low, high = share["interval_95"]
    return Cell(percent(share["accuracy"]), f"{percent(low)} … {percent(high)}")


def attack_tables(records: Sequence[Record]) -> list[Table]:
    """Each attack on its own: a table for each set of images, the largest first; a row a network."""
    groups: dict[Denominator, dict[str, dict[str, dict[str, Any]]]] = {}
    notes: dict[Denominator, list[str]] = {}
    classes: dict[str, Cell] = {}
    for record in records:
        for item in record.evaluations:
            if item.cascade:
                continue
            of = denominator(record, item)
            label, rows = record.label, groups.setdefault(of, {})
            if any(name in rows.get(label, {}) for name in item.attacks):  # in another arithmetic or from another seed
                label += f" ({item.name})"
            rows.setdefault(label, {"clean": item.summary["clean"]}).update(item.attacks)
            classes[label] = class_cell(record)
            notes.setdefault(of, []).extend(_notes(record, item))
    found = []
    for of, rows in sorted(groups.items(), key=lambda entry: -entry[0][3]):
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        body = [(label, [classes[label], *(cell(row.get(name)) for name in names)]) for label, row in rows.items()]
        said = f"Accuracy in %; below it the 95 % interval (Wilson), which is that of the images. {CLASS}"
        told = [said, *notes[of]]
        found.append(Table(shown(of), ["", "class", *names], body, list(dict.fromkeys(told))))
    return found


def cascade_tables(records: Sequence[Record]) -> list[Table]:
    """What stands after each attack where each ran on what those before it left: a column a network."""
    groups: dict[tuple[Denominator, tuple[str, ...]], dict[str, Evaluated]] = {}
    classes: dict[str, Cell] = {}
    for record in records:
        for item in record.evaluations:
            if item.cascade:
                columns = groups.setdefault((denominator(record, item), attacked_by(item)), {})
                again = record.label in columns  # in another arithmetic or from another seed
                label = f"{record.label} ({item.name})" if again else record.label
                columns[label], classes[label] = item, class_cell(record)
    found = []
    for (of, names), columns in groups.items():
        longest = max((list(item.attacks) for item in columns.values()), key=len)
        rows = [("class", [classes[label] for label in columns])]
        rows += [("none: clean", [cell(item.summary["clean"]) for item in columns.values()])]
        rows += [(name, [cell(item.attacks.get(name)) for item in columns.values()]) for name in longest]
        rows.append(("worst case", [cell(item.summary["worst_case"]) for item in columns.values()]))
        told = ["What stands after each attack, in %; each ran on what those before it left."]
        sides = [item.summary.get("between") for item in columns.values()]
        if any(sides):
            rows.append(("certified", [Cell(percent(each and each["certified"])) for each in sides]))
            told[0] += " Certified is what is proven, below which no attack can get."
        told[0] += f" {CLASS}"
        told += [note for item in columns.values() for note in item.summary.get("warnings", [])]
        found.append(Table(f"{_suite(names, columns)}: {shown(of)}", ["after", *columns], rows, [*dict.fromkeys(told)]))
    return found


def attacked_by(item: Evaluated) -> tuple[str, ...]:
    """A suite by its attacks, but for those that know a network's own defence: others lack them in the same list."""
    return tuple(name for name in item.attacks if not name.startswith(("adaptive-", "behind-")))


def _suite(names: Sequence[str], columns: dict[str, Evaluated]) -> str:
    """What a suite is called: by its attacks, or by the folders of its evaluations."""
    if names == STANDARD:
        return "AutoAttack, standard"
    return " and ".join(dict.fromkeys(item.name.removeprefix("evaluation-") for item in columns.values()))


def _notes(record: Record, item: Evaluated) -> list[str]:
    precision = PRECISIONS.get(item.summary.get("precision", ""), "an arithmetic not written down")
    told = [f"{record.label}, {item.name}: {warning}" for warning in item.summary.get("warnings", [])]
    return [f"Gradients of the attacks on {record.label} ({item.name}) in {precision}; verdicts in float32.", *told]


def trained(record: Record) -> list[tuple[str, str]]:
    """What was trained and how, as names and values."""
    recipe = record.recipe
    if recipe is None:
        models = [content["model"] for _, content in record.contents if content.get("model")]
        return [("network", str(models[0]) if models else "handed in"), ("class", NOT_KNOWN)]
    method = {name: value for name, value in recipe["method"].items() if name != "name"}
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in method.items())
    schedule = recipe["lr_schedule"]
    drops = "one-cycle" if schedule["shape"] == "one-cycle" else f"steps at {_plain(schedule['milestones'])} of the run"
    rows = [
        ("data", recipe["data"] + (f", {recipe['limit']:,} images" if recipe.get("limit") else "")),
        ("network", recipe["network"]),
        ("method", recipe["method"]["name"] + (f" ({settings})" if settings else "")),
        ("class", NOT_KNOWN if record.number is None else f"{record.number}: {MEANINGS[record.number]}"),
        ("epochs, batch", f"{recipe['epochs']}, {recipe['batch_size']}"),
        ("learning rate", f"{recipe['lr']:g}, {drops}"),
        ("weight decay, momentum", f"{recipe['weight_decay']:g}, {recipe['momentum']:g}"),
        ("epoch kept", "the last" if recipe.get("select") == "last" else "the best under I-FGSM on validation images"),
        ("validation images", f"{recipe['validation']:,}, of which {recipe['validation_attacked']:,} were attacked"),
        ("seed", str(recipe["seed"])),
        ("arithmetic", PRECISIONS.get(recipe.get("precision") or "", "not written down")),
    ]
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
