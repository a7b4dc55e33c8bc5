"""Trainings that differ in nothing but the seed: the mean of their figures, and how far they spread."""

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence

from bpfc.report.figures import percent
from bpfc.report.page.names import without_seed
from bpfc.report.page.proofs import PROVEN, proofs
from bpfc.report.page.records import Evaluated, Record
from bpfc.report.page.tables import STANDARD, Cell, Denominator, Table, attacked_by, denominator, shown


def by_recipe(records: Sequence[Record]) -> list[list[Record]]:
    """The trainings of each recipe, one a seed."""
    groups: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in records:
        if record.recipe is not None:
            rest = {name: value for name, value in record.recipe.items() if name != "seed"}
            groups[json.dumps(rest, sort_keys=True)].setdefault(record.recipe["seed"], record)
    return [list(group.values()) for group in groups.values()]


def recipe_labels(groups: Sequence[Sequence[Record]]) -> list[str]:
    """A label for each recipe: that of its trainings without the seed, if it is one and no other recipe has it."""
    every = [{without_seed(record) for record in group} for group in groups]
    return [
        min(own) if len(own) == 1 and every.count(own) == 1 else f"{group[0].label} and {len(group) - 1} more"
        for group, own in zip(groups, every, strict=True)
    ]


def seed_tables(records: Sequence[Record]) -> list[Table]:
    """A table for each set of images, the largest first; a row for each recipe of several seeds."""
    groups: dict[Denominator, dict[str, tuple[int, dict[str, list[float]]]]] = {}
    recipes = by_recipe(records)
    for group, label in zip(recipes, recipe_labels(recipes), strict=True):
        for record in group if len(group) > 1 else ():
            for of, shares in _figures(record).items():
                _, row = groups.setdefault(of, {}).setdefault(label, (len(group), defaultdict(list)))
                for name, share in shares.items():
                    row[name].append(share)
    found = []
    for of, rows in sorted(groups.items(), key=lambda entry: -entry[0][3]):
        names = list(dict.fromkeys(name for _, row in rows.values() for name in row))
        body = [
            (label, [Cell(f"{seeds}"), *(_cell(row.get(name, []), seeds) for name in names)])
            for label, (seeds, row) in rows.items()
        ]
        told = "Mean over seeds in %; below it the standard deviation over seeds, that of a sample."
        found.append(Table(f"Over seeds, {shown(of)}", ["", "seeds", *names], body, [told]))
    return found


def _figures(record: Record) -> dict[Denominator, dict[str, float]]:
    found: dict[Denominator, dict[str, float]] = defaultdict(dict)
    for item in record.evaluations:
        row, summary = found[denominator(record, item)], item.summary
        shares = {_suite(item): summary["worst_case"]} if item.cascade else item.attacks
        for name, share in {"clean": summary["clean"], **shares}.items():
            row.setdefault(name, share["accuracy"])
    for of, content in proofs(record):
        found[of].setdefault("clean", content["clean"]["accuracy"])
        found[of].setdefault(PROVEN, content["certified"]["accuracy"])
    return found


def _suite(item: Evaluated) -> str:
    return "AutoAttack" if attacked_by(item) == STANDARD else f"worst of {item.name.removeprefix('evaluation-')}"


def _cell(shares: Sequence[float], seeds: int) -> Cell:
    if not shares:
        return Cell(percent(None))
    spread = [f"± {percent(statistics.stdev(shares))}"] if len(shares) > 1 else []
    lacking = [f"{len(shares)} of {seeds} seeds"] if len(shares) < seeds else []
    return Cell(percent(statistics.mean(shares)), ", ".join(spread + lacking))
