"""Clean and robust accuracy as a plane: an SVG file of its own, with its style, on a light ground in any page."""

import textwrap
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

from bpfc.methods.classes import MEANINGS
from bpfc.report.figures import percent
from bpfc.report.page.labels import Box, along, around, placed
from bpfc.report.page.svg import BOTTOM, LEFT, Axis, axes, frame, marker, places, text, ticks
from bpfc.report.trade_off import Point

WIDTH, HEIGHT = 520, 440
"""Of the plane with its axes; what the signs mean stands below it."""
LINE = 15
"""Of the words below the plane, from one to the next."""
LETTERS = 76
"""In such a line, at most."""
MARGIN = 0.2
"""Room on both sides of the points, as a share of how far they are apart: for their names."""
LARGER = 1.4
"""How much larger than in its own units it is shown where there is room."""
TICK = 6
"""Half the width of the tick at what is certified: more than a sign's."""
ROBUST = Axis("accuracy under attack, %", 0, 100, range(0, 101, 20))
STAR = "M0-7L1.7-2.3L6.7-2.2L2.7.9L4.1 5.7L0 2.8L-4.1 5.7L-2.7.9L-6.7-2.2L-1.7-2.3Z"
# Okabe and Ito's colours, which colour-blind people tell apart; each class has its own sign as well.
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#d55e00")
STYLE = (
    "<style>"
    'text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;fill:#575e68}'
    ".name{fill:#1c1f24}.ground{fill:#fff}.grid{stroke:#dfdcd5;fill:none}.axis{stroke:#575e68;fill:none}"
    ".lead{stroke:#8a9099;stroke-width:.75;fill:none}.way{stroke:#8a9099;stroke-width:1.5}.dashed{stroke-dasharray:4 2}"
    ".way,.line{fill:none}.line{stroke-width:1.5}.mark{stroke:#fff}"
    ".goal{fill:#fff;stroke:#1c1f24;stroke-width:1.25}.arrow,.head{stroke:#1c1f24;fill:none}"
    ".arrow{stroke-dasharray:1.5 2}"
    + "".join(f".mark.s{n}{{fill:{colour}}}.line.s{n}{{stroke:{colour}}}" for n, colour in enumerate(COLOURS))
    + "".join(f".hollow .s{n}{{fill:#fff;stroke:{colour};stroke-width:1.5}}" for n, colour in enumerate(COLOURS))
    + "</style>"
)


class Way(NamedTuple):
    """A line through points in order, broken off where one of them is not shown.

    Attributes:
        points: of those that are drawn.
        kind: solid or dashed.
        meaning: as the legend tells it, once for lines of the same.
    """

    points: Sequence[Point]
    kind: Literal["solid", "dashed"]
    meaning: str


class Spot(NamedTuple):
    """A point at its place in the figure.

    Attributes:
        proven: how far down the line to what is certified goes; None without.
        lower: how far down the arrow goes to what was found of fewer images; None without.
    """

    point: Point
    x: float
    y: float
    proven: float | None
    lower: float | None

    @property
    def words(self) -> str:
        """Its name, without what the table explains, and the cost of a step."""
        name = self.point.name.split(" (")[0]
        return name if self.point.cost is None else f"{name}, {self.point.cost}×"


def drawn(
    slug: str,
    title: str,
    every: Sequence[Point],
    robust: Axis = ROBUST,
    ways: Sequence[Way] = (),
    unnamed: Collection[Point] = (),
    notes: Sequence[str] = (),
) -> str:
    """An SVG file of these points.

    Args:
        robust: the axis upwards. What lies below it is named in the legend, and told in the description.
        ways: lines through points among them.
        unnamed: points among them whose names are told in the description alone.
        notes: what else the legend is to say.

    Raises:
        ValueError: nothing is to be drawn, or there are too many points for their names.
    """
    there = {point: 100 * point.height for point in every if point.clean is not None and point.height is not None}
    shown = [point for point, height in there.items() if height >= robust.low]
    if not shown:
        names = ", ".join(point.name for point in every)
        raise ValueError(
            f"{title}: nothing to draw, for none of {names} was run and stands at {robust.low:g} % or more"
        )
    x = _clean([100 * (point.clean or 0) for point in shown])
    at_x, at_y = places(x, robust, HEIGHT, WIDTH)
    spots = {}
    for point in shown:
        proven = None if point.certified is None else at_y(100 * point.certified)
        lower = None if point.below is None else at_y(max(100 * point.below.stands, robust.low))
        spots[point] = Spot(point, at_x(100 * (point.clean or 0)), at_y(there[point]), proven, lower)
    if low := "; ".join(point.name for point in there if point not in spots):
        notes = [*notes, f"not shown, below {robust.low:g} %: {low}"]
    legend, tall = _legend(list(spots.values()), ways, notes)
    body = f'{STYLE}<rect class="ground" width="{WIDTH}" height="{tall}"/>' + axes(x, robust, at_x, at_y, HEIGHT, WIDTH)
    lines = [(way.kind, [(spots[p].x, spots[p].y) for p in part]) for way in ways for part in _parts(way.points, spots)]
    plane = str(frame(slug, title, _told(every), body, tall, WIDTH))
    size = f'xmlns="http://www.w3.org/2000/svg" width="{LARGER * WIDTH:g}" height="{LARGER * tall:g}"'
    marks = _marks(list(spots.values()), unnamed, lines) + legend
    return plane.replace("<svg", f"<svg {size}", 1).replace("</svg>", f"{marks}</svg>\n")


def _parts(points: Sequence[Point], shown: Collection[Point]) -> Iterator[list[Point]]:
    """What is left of a line of which not every point is shown: pieces of two points or more."""
    for is_shown, group in groupby(points, lambda point: point in shown):
        if is_shown and len(part := list(group)) > 1:
            yield part


def _clean(shares: Sequence[float]) -> Axis:
    margin = MARGIN * (max(shares) - min(shares))
    low, high = min(shares) - margin, min(max(shares) + margin, 100)
    return Axis("clean accuracy, %", low, high, ticks(low, high, 8))


def _marks(
    spots: Sequence[Spot], unnamed: Collection[Point], ways: Sequence[tuple[str, Sequence[tuple[float, float]]]]
) -> str:
    """Lines through points, to what is certified and to the names, then the points, then the names."""
    named = [spot for spot in spots if spot.point not in unnamed]
    taken = [around((spot.x, spot.y)) for spot in spots if spot.point in unnamed]
    taken += [Box(spot.x - TICK, spot.y, spot.x + TICK, spot.proven + 1) for spot in spots if spot.proven is not None]
    taken += [Box(spot.x - TICK, spot.y, spot.x + TICK, spot.lower + 1) for spot in spots if spot.lower is not None]
    lines = [box for _, way in ways for one, other in pairwise(way) for box in along(one, other)]
    room = Box(LEFT + 2, 4, WIDTH - 2, HEIGHT - BOTTOM - 1)
    names = [(spot.words, (spot.x, spot.y)) for spot in named]
    try:
        labels = placed(names, room, [*taken, *lines])
    except ValueError:  # then they may lie on lines, but on nothing else
        labels = placed(names, room, taken)
    parts = [f'<path class="way {kind}" d="M{"L".join(f"{x:g} {y:g}" for x, y in way)}"/>' for kind, way in ways]
    for spot in spots:
        if spot.proven is not None:
            parts.append(_down(spot.x, spot.y, spot.point.number or 0, spot.proven))
        if spot.lower is not None:
            parts.append(_arrow(spot.x, spot.y, spot.lower))
    for label in labels:
        if label.lead is not None:
            (x, y), (to_x, to_y) = label.spot, label.lead
            parts.append(f'<path class="lead" d="M{x:g} {y:g}L{to_x:.1f} {to_y:.1f}"/>')
    for spot in spots:
        parts.append(_sign(spot))
    for label in labels:
        x, end = label.anchor
        parts.append(text(round(x, 1), round(label.box.bottom - 3, 1), label.words, "name", end))
    return "".join(parts)


def _sign(spot: Spot) -> str:
    number = spot.point.number
    if number is None:
        return _goal(spot.x, spot.y)
    return (_hollow if spot.point.published else marker)(spot.x, spot.y, number)


def _goal(x: float, y: float) -> str:
    """A star, which no class has."""
    return f'<path class="goal" transform="translate({x:g} {y:g})" d="{STAR}"/>'


def _arrow(x: float, y: float, to: float) -> str:
    """A dotted line from a point down to a head."""
    return f'<path class="arrow" d="M{x:g} {y:g}V{to:g}"/><path class="head" d="M{x - 4:g} {to - 5:g}l4 5l4-5"/>'


def _hollow(x: float, y: float, number: int) -> str:
    return f'<g class="hollow">{marker(x, y, number)}</g>'


def _down(x: float, y: float, number: int, to: float) -> str:
    """A line from a point to a tick below it."""
    return f'<path class="line s{number}" d="M{x:g} {y:g}V{to:g}m-{TICK} 0h{2 * TICK}"/>'


def _legend(spots: Sequence[Spot], ways: Sequence[Way], notes: Sequence[str]) -> tuple[str, int]:
    """What the signs mean, and the height of the whole picture."""
    numbers = sorted({spot.point.number for spot in spots if spot.point.number is not None})
    rows = [(marker(0, 0, number), f"class {number}: {MEANINGS[number]}") for number in numbers]
    if any(spot.point.published for spot in spots):
        rows.append((_hollow(0, 0, 0), "published, not made here; at what is certified, where no attack was run"))
    if any(spot.proven is not None for spot in spots):
        rows.append((_down(0, -4, 0, 3), "down to what is certified"))
    if any(spot.lower is not None for spot in spots):
        rows.append((_arrow(0, -5, 5), "down to what another attack leaves of fewer images, beyond chance"))
    if any(spot.point.number is None for spot in spots):
        rows.append((_goal(0, 0), "goal, under AutoAttack: so far up and to the right, or farther"))
    for kind, meaning in dict.fromkeys((way.kind, way.meaning) for way in ways):
        rows.append((f'<path class="way {kind}" d="M-7 4L7-4"/>', meaning))
    rows.append(("", "2×: what a training step costs, a normal one being 1"))
    rows += [("", note) for note in notes]
    drawn, y = [], HEIGHT + 14
    for sign, words in rows:
        drawn.append(f'<g transform="translate(14 {y - 4})">{sign}</g>')
        for line in textwrap.wrap(words, LETTERS):
            drawn.append(text(26, y, line))
            y += LINE
    return "".join(drawn), y


def _told(every: Sequence[Point]) -> str:
    """The picture in words."""
    told = []
    for point in every:
        if point.clean is None:
            told.append(f"{point.name}: not run")
            continue
        figures = [f"{percent(point.clean)} clean"]
        if point.stands is not None:
            figures.append(f"{percent(point.stands)} under {point.under}")
        if point.certified is not None:
            figures.append(f"{percent(point.certified)} certified")
        if point.below is not None:
            stands, under, images = point.below
            figures.append(f"{percent(stands)} under {under} of {images:,} images")
        made = ", published" if point.published else ""
        of = "" if point.number is None else f" (class {point.number}{made})"
        told.append(f"{point.name}{of}: {', '.join(figures)}")
    return "; ".join(told) + "."
