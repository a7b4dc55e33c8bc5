"""The trade-off as a picture: the table's points, the goals, and what half the width shows beside them."""

from bpfc.report.captions import shown_images
from bpfc.report.figures import DATA, Results
from bpfc.report.goals import GOALS
from bpfc.report.page.svg import Axis
from bpfc.report.plane import ROBUST, Way, drawn
from bpfc.report.short import WEIGHTS, short_point, weighted
from bpfc.report.trade_off import Point, points
from bpfc.training.recipes import RECIPES

CLOSER = {
    "fashion-mnist": Axis(ROBUST.label, 55, 85, range(60, 81, 10)),
    "mnist": Axis(ROBUST.label, 72, 97, range(75, 96, 5)),
    "cifar-10": Axis(ROBUST.label, 30, 48, range(30, 46, 5)),
}
"""By data set, where all but the networks without a defence lie: the legend names these."""


def picture(results: Results, data: str) -> str:
    """An SVG file: clean accuracy to the right, robust accuracy upwards, the cost of a step beside each name.

    Raises:
        ValueError: the evaluations are of different data or ε, or there are too many points for their names.
    """
    usual = RECIPES[f"{data}-bpfc"][1].epochs
    every = [_named(point, usual) for point in points(results, data)]
    notes = [f"ep.: epochs, where they were fewer than the paper's {usual}"]
    goals = [Point("goal", None, None, "", "", goal.clean, goal.stands, "AutoAttack", None) for goal in GOALS[data]]
    along = _along(results, data)
    margin = short_point(results, f"{data}-margin-curve", "margin penalty, half width")
    half = [point for point in (*along, margin) if point.source]
    if half:
        images = shown_images(results.summary(half[0].source)).lower()
        notes.append(f"half width: after {half[0].epochs} epochs, on {images}")
    ways = [Way(along, "solid", "BPFC along its λ, half width")] if along else []
    return drawn(
        f"trade-off-{data}",
        f"{DATA[data]}: clean and robust accuracy",
        [*every, *goals, *half],
        CLOSER[data],
        ways,
        notes=notes,
    )


def _along(results: Results, data: str) -> list[Point]:
    """BPFC from its smallest λ to its largest, as far as it was run; none where it was with one alone."""
    symbol, own, others = WEIGHTS["bpfc-fast"]
    found = zip(sorted({own, *others}), weighted(results, data, "bpfc-fast"), strict=True)
    there = [point._replace(name=f"{symbol} {weight:g}", cost=None) for weight, point in found if point.source]
    return there if len(there) > 1 else []


def _named(point: Point, usual: int) -> Point:
    """By a name for which there is room, and with its epochs where they are fewer than usual."""
    name = point.name.split(" (")[0].replace("tone curve", "curve")
    short = point.epochs and int(point.epochs) < usual
    return point._replace(name=f"{name}, {point.epochs} ep." if short else name)
