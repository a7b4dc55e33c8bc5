"""Accuracy over steps, restarts and ε, as far as ledgers know it; and what a training showed epoch by epoch."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from markupsafe import Markup

from bpfc.report.figures import DATA
from bpfc.report.page.records import Evaluated, Record
from bpfc.report.page.svg import PERCENT, STYLES, Axis, Series, chart, legend, places, text, ticks
from bpfc.report.page.tables import Denominator, denominator, shown


class Figure(NamedTuple):
    """A figure with what must be said below it."""

    drawn: Markup
    caption: str


def over_steps(records: Sequence[Record]) -> list[Figure]:
    """For each attack of one start that says in which step it broke an image: what stands after so many steps."""

    def curve(item: Evaluated, name: str) -> list[tuple[float, float]] | None:
        found = re.fullmatch(r".*-(\d+)", name)
        steps = [row["attacks"][name]["step"] for row in item.rows if _broken(row, name)]
        if not found or not any(steps) or None in steps or max(steps) > int(found[1]):
            return None
        return _standing(item.rows, name, "step", range(int(found[1]) + 1))

    return list(_figures(records, "steps", "steps", curve, "How many of all images stand after so many steps"))


def over_restarts(records: Sequence[Record]) -> list[Figure]:
    """For each attack with several random starts: what stands after so many of them."""

    def curve(item: Evaluated, name: str) -> list[tuple[float, float]] | None:
        found = re.fullmatch(r".*x(\d+)", name)
        if not found or int(found[1]) < 2:
            return None
        return [(at + 1, share) for at, share in _standing(item.rows, name, "restart", range(int(found[1])))]

    return list(_figures(records, "restarts", "restarts", curve, "How many stand after so many random starts"))


def _figures(
    records: Sequence[Record],
    slug: str,
    unit: str,
    curve: Callable[[Evaluated, str], list[tuple[float, float]] | None],
    told: str,
) -> Iterator[Figure]:
    """A figure for each attack, of the most images that it met, with a line for each run."""
    lines: dict[tuple[str, Denominator], dict[str, list[tuple[float, float]]]] = {}
    for record in records:
        for item in record.evaluations:
            for name in item.attacks if item.rows and not item.cascade else ():
                if points := curve(item, name):
                    lines.setdefault((name, denominator(record, item)), {}).setdefault(record.label, points)
    most: dict[tuple[Any, ...], int] = {}
    for name, (*ball, images) in lines:
        most[name, *ball] = max(images, most.get((name, *ball), 0))
    kept = {(name, of): found for (name, of), found in lines.items() if of[-1] == most[name, *of[:-1]]}
    for number, ((name, of), found) in enumerate(kept.items()):
        last = max(points[-1][0] for points in found.values())
        least = min(points[0][0] for points in found.values())
        series = [Series(label, points, style, stairs=True) for style, (label, points) in enumerate(found.items())]
        axis = Axis(unit, least, last, ticks(least, last))
        drawn = chart(f"{slug}{number}", f"{name}: accuracy in % over {unit}", axis, PERCENT, series)
        yield Figure(
            drawn + legend((each.name, each.style) for each in series),
            f"{name}, {shown(of)}. {told}.",
        )


def _standing(rows: Iterable[Any], name: str, count: str, values: Iterable[int]) -> list[tuple[float, float]]:
    """In %, by how large the verdicts' `count` was when the attack broke an image."""
    rows = list(rows)
    right = sum(row["broken_by"] != "clean" for row in rows)
    broke = [row["attacks"][name][count] for row in rows if _broken(row, name)]
    return [(value, 100 * (right - sum(at <= value for at in broke)) / len(rows)) for value in values]


def _broken(row: Any, name: str) -> bool:
    return name in row["attacks"] and bool(row["attacks"][name]["broken"])


def over_eps(records: Sequence[Record]) -> list[Figure]:
    """What is known of other ε, for each data set: evaluations at several, the nearest images found, certificates."""
    figures: list[Figure] = []
    for data in dict.fromkeys(record.data for record in records):
        lines = [line for record in records if record.data == data for line in _over_eps(record)]
        for begin in range(0, len(lines), STYLES):
            some = [replace(line, style=style) for style, line in enumerate(lines[begin : begin + STYLES])]
            axis = Axis("ε in ℓ∞, units of [0, 1], logarithmic", 1e-4, 1, (0.0001, 0.001, 0.01, 0.1, 1), log=True)
            drawn = chart(f"eps{len(figures)}", "Accuracy in % over ε", axis, PERCENT, some)
            told = (
                f"Accuracy over ε, {DATA.get(data, data)}. What an attack finds is an upper bound: another attack may "
                "find nearer images. What is certified is a lower bound."
            )
            figures.append(Figure(drawn + legend((each.name, each.style) for each in some), told))
    return figures


def _over_eps(record: Record) -> list[Series]:
    """The lines of a run; those that would have one name say where they come from."""
    lines = [
        (f"{record.label}, {name}", f"{images:,} images", points, False)
        for (name, images), points in _several(record).items()
    ]
    for item in record.evaluations:
        for name in item.attacks if item.rows and not item.cascade and item.norm == "linf" else ():
            if "median_linf" in item.attacks[name]:
                lines.append((f"{record.label}, nearest found by {name}", item.name, _nearest(item, name), True))
    for folder, content in record.certifications.items():
        if curve := content.get("curve"):
            points = [(eps, 100 * share) for eps, share in zip(curve["eps"], curve["certified"], strict=True)]
            lines.append((f"{record.label}, certified", folder, points, False))
    count = Counter(name for name, *_ in lines)
    return [
        Series(f"{name} ({where})" if count[name] > 1 else name, points, 0, stairs)
        for name, where, points, stairs in lines
    ]


def empty_bounds(records: Sequence[Record]) -> str:
    """Where nothing is certified at the ε that was asked for: why, and up to which radius something is."""
    told = [
        f"Of {record.label} nothing is certified at ε {content['eps']:g}; bounds reach to ε "
        f"{_small(content['radius']['median'])} in the median, {_small(content['radius']['largest'])} at most."
        for record in records
        for content in record.certifications.values()
        if "radius" in content and not content["certified"]["accuracy"]
    ]
    if told:
        told.append(
            "Bounds widen with every layer of a network that was not trained for them, and empty ones say nothing "
            "against it."
        )
    return " ".join(told)


def _small(radius: float) -> str:
    """Two digits, and no power of ten."""
    return f"{float(f'{radius:.2g}'):.8f}".rstrip("0").rstrip(".")


def _several(record: Record) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """By attack and number of images: ε and accuracy in %, where the same images were attacked at more than one ε."""
    found: dict[tuple[str, int], dict[float, float]] = {}
    for item in record.evaluations:
        for name, share in item.attacks.items() if not item.cascade and item.norm == "linf" else ():
            if "median_linf" not in share:
                found.setdefault((name, item.images), {})[item.eps] = 100 * share["accuracy"]
    return {key: sorted(by.items()) for key, by in found.items() if len(by) > 1}


def _nearest(item: Evaluated, name: str) -> list[tuple[float, float]]:
    """ε from 0.0001 to 1, and the share in % for which the attack found nothing as near."""
    right = [row for row in item.rows if row["broken_by"] != "clean"]
    distances = [row["attacks"][name]["linf"] for row in right]
    radii = [10 ** (-4 + n / 20) for n in range(81)]
    stand = [sum(at is None or at > eps for at in distances) for eps in radii]
    return [(eps, 100 * count / len(item.rows)) for eps, count in zip(radii, stand, strict=True)]


TRAINED = {
    "train_accuracy": "training images",
    "validation_accuracy": "validation images",
    "validation_ifgsm_accuracy": "validation images under I-FGSM",
    "watched_pgd_accuracy": "validation images under PGD-10",
}
"""Accuracies of a log, as the figure names them."""


def training(record: Record, slug: str) -> Figure | None:
    """Accuracies epoch by epoch, with the epoch whose weights were kept; None without a log."""
    log = record.log
    if not log:
        return None
    series = []
    for style, (name, line) in enumerate(TRAINED.items()):
        points = [(row["epoch"] + 1, 100 * row[name]) for row in log if row.get(name) is not None]
        if points:
            series.append(Series(line, points, style))
    last = max(len(log), 2)
    axis = Axis("epoch", 1, last, [tick for tick in ticks(1, last) if tick == round(tick)])
    at_x, _ = places(axis, PERCENT, 210)
    kept = log[-1].get("selected_epoch", log[-1]["epoch"]) + 1
    end = kept > 0.6 * last
    marks = f'<path class="kept" d="M{at_x(kept):g} 22V172"/>' + text(
        at_x(kept) + (-4 if end else 4), 21, f"kept: epoch {kept}", "tick", "end" if end else "start"
    )
    drawn = chart(f"training-{slug}", f"{record.label}: accuracy in % over epochs", axis, PERCENT, series, marks)
    seconds = sum(row.get("train_seconds", 0) for row in log)
    return Figure(drawn, f"{len(log)} epochs, {seconds / 60:.0f} minutes of training steps.")


def training_legend(records: Sequence[Record]) -> Markup:
    """What the lines of all these figures stand for."""
    there = {name for record in records for row in record.log for name, value in row.items() if value is not None}
    return legend((line, style) for style, (name, line) in enumerate(TRAINED.items()) if name in there)
