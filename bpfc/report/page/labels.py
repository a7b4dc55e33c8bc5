"""Names of points in a plane, put where they hide neither each other nor a point."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SIZE = 11
"""Of the text, in the figure's units."""
SMALL, CAPITAL = 0.6 * SIZE, 0.75 * SIZE
"""A letter's width, on average, in the widest of the fonts that may be there."""
GAP = 3
"""Beside a text, before anything else stands."""
CLEAR = 6
"""How far around a point nothing else stands."""


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether they overlap; boxes that touch do not."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def within(self, other: "Box") -> bool:
        across = self.left >= other.left and self.right <= other.right
        return across and self.top >= other.top and self.bottom <= other.bottom


@dataclass(frozen=True)
class Label:
    """Where a name stands.

    Attributes:
        words: the name.
        spot: the point that it belongs to.
        box: what it covers.
    """

    words: str
    spot: tuple[float, float]
    box: Box

    @property
    def anchor(self) -> tuple[float, str]:
        """Where the text is held, and by which end: by the one nearest to the point, if it is wider than thought."""
        if self.box.left > self.spot[0]:
            return self.box.left + GAP, "start"
        if self.box.right < self.spot[0]:
            return self.box.right - GAP, "end"
        return (self.box.left + self.box.right) / 2, "middle"

    @property
    def lead(self) -> tuple[float, float] | None:
        """Where a line from the point ends, at the nearest place of the text; None where it is near enough as it is."""
        x = min(max(self.spot[0], self.box.left), self.box.right)
        y = min(max(self.spot[1], self.box.top), self.box.bottom)
        return (x, y) if math.dist(self.spot, (x, y)) > 2 * CLEAR else None


def placed(names: Sequence[tuple[str, tuple[float, float]]], room: Box, taken: Sequence[Box] = ()) -> list[Label]:
    """A label for each name, as near to its point as is free; who finds no place chooses first the next time.

    Args:
        names: each with its point.
        room: what all of them must lie in.
        taken: where no label may lie, besides the points.

    Raises:
        ValueError: there is no free place.
    """
    solid = [*(around(spot) for _, spot in names), *taken]
    order = list(range(len(names)))
    for _ in range(len(names) ** 2 + 1):
        found: dict[int, Label] = {}
        lines: list[Box] = []
        for at in order:
            covered = [label.box for label in found.values()]
            tries = (label for label in _tries(*names[at]) if label.box.within(room))
            label = next((each for each in tries if _free(each, solid, covered, lines)), None)
            if label is None:
                order.remove(at)
                order.insert(0, at)
                break
            found[at] = label
            lines += _along(label)
        else:
            return [found[at] for at in range(len(names))]
    raise ValueError(f"no free place for {names[order[0]][0]!r} in the picture; make it larger or show fewer points")


def _free(label: Label, solid: Sequence[Box], labels: Sequence[Box], lines: Sequence[Box]) -> bool:
    """Whether a label hides nothing, and the line to it runs over no other point, label or line."""
    if any(label.box.meets(other) for taken in (solid, labels, lines) for other in taken):
        return False
    here = around(label.spot)
    over = [*labels, *lines, *(box for box in solid if not box.meets(here))]
    return not any(part.meets(other) for part in _along(label) for other in over)


def around(spot: tuple[float, float]) -> Box:
    """What a point covers."""
    return Box(spot[0] - CLEAR, spot[1] - CLEAR, spot[0] + CLEAR, spot[1] + CLEAR)


def _tries(words: str, spot: tuple[float, float]) -> Iterator[Label]:
    """Places around a point, nearest first, the right-hand one first among equals."""
    wide = 2 * GAP + sum(CAPITAL if letter.isupper() else SMALL for letter in words)
    high = SIZE + 2
    for away in range(CLEAR + 1, 240, 4):
        for turn in (0, 8, 1, 15, 7, 9, 2, 14, 6, 10, 3, 13, 5, 11, 4, 12):
            x, y = spot[0] + away * math.cos(turn * math.pi / 8), spot[1] - away * math.sin(turn * math.pi / 8)
            left = x if turn in (0, 1, 2, 3, 13, 14, 15) else x - wide if 4 < turn < 12 else x - wide / 2
            top = y - high / 2 if turn in (0, 8) else y - high if turn < 8 else y
            yield Label(words, spot, Box(left, top, left + wide, top + high))


def _along(label: Label) -> Iterator[Box]:
    """The line from a point to its label."""
    if (end := label.lead) is not None:
        yield from along(label.spot, end)


def along(start: tuple[float, float], end: tuple[float, float]) -> Iterator[Box]:
    """A line, as small boxes."""
    count = math.ceil(math.dist(start, end) / 2)
    for n in range(count + 1):
        x, y = (a + (b - a) * n / max(count, 1) for a, b in zip(start, end, strict=True))
        yield Box(x - 0.5, y - 0.5, x + 0.5, y + 0.5)
