"""Figures as inline SVG: a plane with axes and units, and marks in it. Colours are classes of the page's style."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH = 360
"""Of every figure, in its own units: a phone's width, so that its text is as large there as the page's."""
LEFT, RIGHT, TOP, BOTTOM = 36, 14, 26, 38
STYLES = 6
"""How many series the style tells apart: by colour, dash and marker."""


@dataclass(frozen=True)
class Axis:
    """A direction of a figure.

    Attributes:
        label: what it shows, with the unit.
        low, high: its ends.
        ticks: where it has marks.
        log: whether it is logarithmic.
    """

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    log: bool = False

    def share(self, value: float) -> float:
        """How far along a value stands, 0 … 1; what lies beyond an end stands there. Half-way if the ends are one."""
        low, high, value = (math.log10(max(x, 1e-12)) if self.log else x for x in (self.low, self.high, value))
        if low == high:
            return 0.5
        return min(max((value - low) / (high - low), 0.0), 1.0)


PERCENT = Axis("accuracy, %", 0, 100, (0, 25, 50, 75, 100))


@dataclass(frozen=True)
class Series:
    """A line with its name: points (x, y) in the axes' units. `stairs`: it is constant from each point to the next."""

    name: str
    points: Sequence[tuple[float, float]]
    style: int
    stairs: bool = False


def chart(
    slug: str, title: str, x: Axis, y: Axis, series: Sequence[Series], marks: str = "", height: int = 210
) -> Markup:
    """Lines in a plane; their legend stands apart. `marks` is SVG of the caller's own, in the units of `places`."""
    at_x, at_y = places(x, y, height)
    lines = [_line(item, at_x, at_y) for item in series]
    told = "; ".join(f"{item.name}: from {item.points[0][1]:.4g} to {item.points[-1][1]:.4g}" for item in series)
    body = axes(x, y, at_x, at_y, height) + "".join(lines) + marks
    return frame(slug, title, told, body, height)


def places(
    x: Axis, y: Axis, height: int, width: int = WIDTH
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From the axes' units to the figure's."""
    wide, high = width - LEFT - RIGHT, height - TOP - BOTTOM
    return lambda v: round(LEFT + wide * x.share(v), 1), lambda v: round(TOP + high * (1 - y.share(v)), 1)


def frame(slug: str, title: str, told: str, body: str, height: int, width: int = WIDTH) -> Markup:
    """An SVG figure with its title and a description for those who don't see it."""
    return Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{s}-t {s}-d"><title id="{s}-t">{t}</title>'
        '<desc id="{s}-d">{d}</desc>{b}</svg>'
    ).format(w=width, h=height, s=slug, t=title, d=told, b=Markup(body))


def legend(names: Iterable[tuple[str, int]]) -> Markup:
    """What each style stands for."""
    items = [
        Markup('<li><svg class="key" viewBox="0 0 28 12" aria-hidden="true">{line}{dot}</svg> {name}</li>').format(
            line=Markup('<path class="line s{}" d="M1 6H27"/>').format(style % STYLES),
            dot=Markup(marker(14, 6, style)),
            name=name,
        )
        for name, style in names
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def marker(x: float, y: float, style: int) -> str:
    """A point's sign: each style has its own shape."""
    shape = (
        "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",
        "M-3.6-3.6H3.6V3.6H-3.6Z",
        "M0-5L5 0L0 5L-5 0Z",
        "M0-4.6L4.6 3.8H-4.6Z",
        "M0 4.6L4.6-3.8H-4.6Z",
        "M-4-1.4H-1.4V-4H1.4V-1.4H4V1.4H1.4V4H-1.4V1.4H-4Z",
    )[style % STYLES]
    return f'<path class="mark s{style % STYLES}" transform="translate({x:g} {y:g})" d="{shape}"/>'


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def lines(words: str, size: float, room: float = WIDTH - 8) -> list[str]:
    """Words as lines that fit into a figure, since SVG breaks none; a word longer than a line is broken at a joint."""
    found, line = [], ""
    for word in re.findall(r"\S+\s*", words):
        for piece in [word] if _wide(word.rstrip(), size) <= room else re.findall(r".+?(?:[/_-]|$)", word):
            if line and _wide((line + piece).rstrip(), size) > room:
                found.append(line.rstrip())
                line = ""
            for letter in piece:
                if _wide(line + letter.rstrip(), size) > room:
                    found.append(line)
                    line = ""
                line += letter
    return [*found, line.rstrip()]


def _wide(words: str, size: float) -> float:
    """At least as wide as most words are in the widest bold font that may be there."""
    return size * sum(map(_letter, words))


def _letter(letter: str) -> float:
    if letter in " fijlrt,.:()-'|·":
        return 0.45
    if letter in "mwMW%@" or letter >= "\u2e80":  # Chinese, Japanese, Korean and pictures
        return 1.08
    return 0.8 if letter.isupper() else 0.72


def axes(
    x: Axis,
    y: Axis,
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
    height: int,
    width: int = WIDTH,
) -> str:
    """Both axes of a plane, with ticks, labels and a faint line at each tick of y."""
    floor = height - BOTTOM
    parts = [text(LEFT - 30, 14, y.label, "label")]
    for tick in y.ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {at_y(tick):g}H{width - RIGHT}"/>')
        parts.append(text(LEFT - 6, at_y(tick) + 4, f"{tick:g}", "tick", "end"))
    for tick in x.ticks:
        parts.append(f'<path class="axis" d="M{at_x(tick):g} {floor}v4"/>')
        parts.append(text(at_x(tick), floor + 17, f"{tick:g}", "tick", "middle"))
    parts.append(f'<path class="axis" d="M{LEFT} {floor}H{width - RIGHT}"/>')
    parts.append(text(width - RIGHT, height - 5, x.label, "label", "end"))
    return "".join(parts)


def _line(item: Series, at_x: Callable[[float], float], at_y: Callable[[float], float]) -> str:
    """The path of a series; a marker where it begins and ends, and on each point where there are few."""
    spots = [(at_x(x), at_y(y)) for x, y in item.points]
    path = [f"M{spots[0][0]:g} {spots[0][1]:g}"]
    for (_, before), (x, y) in pairwise(spots):
        path.append(f"H{x:g}V{y:g}" if item.stairs and y != before else f"H{x:g}" if item.stairs else f"L{x:g} {y:g}")
    few = spots if len(spots) <= 8 and not item.stairs else [spots[-1]]
    dots = "".join(marker(x, y, item.style) for x, y in few)
    return f'<path class="line s{item.style % STYLES}" d="{"".join(path)}"/>{dots}'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two ends."""
    step = 10 ** math.floor(math.log10(max(high - low, 1e-9) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]
