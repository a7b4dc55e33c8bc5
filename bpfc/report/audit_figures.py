"""The figures of an audit as SVG files that stand alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from bpfc.report.page.svg import PERCENT, RIGHT, WIDTH, Axis, Series, chart, frame, places, text, ticks

STYLE = """
svg { background: #fff; font-family: system-ui, sans-serif; font-size: 11px; fill: #222 }
.grid { stroke: #ddd; fill: none } .axis { stroke: #777; fill: none } .line { fill: none; stroke-width: 2 }
.tick { font-size: 10px; fill: #555 }
"""
COLOURS = ("#0b5fa5", "#c2500a", "#0a7a57")
SIDE = 210
"""Height of the loss surface, in a figure's units."""


def draw(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """File names and SVG, of what `bpfc.auditing.figures` gives.

    Args:
        figures: of an audit.json of schema 2.
    """
    radii = {"PGD on the margin": figures["eps"]}
    yield "accuracy-over-eps.svg", _shares("Accuracy over ε", "ε in ℓ∞, units of [0, 1]", radii, stairs=False)
    yield "accuracy-over-steps.svg", _shares("Accuracy over steps", "steps", figures["steps"])
    again = {"short PGD on what plain PGD left": figures["restarts"]}
    yield "accuracy-over-restarts.svg", _shares("Accuracy over restarts", "restarts", again)
    if figures["climb"]["median"]:
        yield "loss-along-attack.svg", _climb(figures["climb"])
    if figures["surface"] is not None:
        yield "loss-surface.svg", _surface(figures["surface"])


def _shares(title: str, unit: str, lines: Mapping[str, Sequence[Sequence[float]]], stairs: bool = True) -> str:
    last = max(points[-1][0] for points in lines.values())
    series = [
        Series(name, [(at, 100 * share) for at, share in points], n, stairs)
        for n, (name, points) in enumerate(lines.items())
    ]
    return _alone(title, Axis(unit, 0, last, ticks(0, last)), PERCENT, series)


def _climb(climb: Mapping[str, Sequence[float]]) -> str:
    names = {"low": "lower quartile", "median": "median", "high": "upper quartile"}
    low, high = min(climb["low"]), max(0.0, *climb["high"])
    steps = len(climb["median"]) - 1
    y = Axis("highest margin so far, of images that stand", low, high, ticks(low, high))
    x = Axis("steps", 0, steps, ticks(0, steps))
    series = [Series(shown, list(enumerate(climb[name])), n) for n, (name, shown) in enumerate(names.items())]
    return _alone("Margin along an attack", x, y, series)


def _surface(surface: Mapping[str, Any]) -> str:
    """Cells from blue (the label is ahead) to red (another class is)."""
    rows, columns, loss = surface["gradient"], surface["random"], surface["loss"]
    end = max(abs(value) for row in loss for value in row) or 1.0
    x = Axis("ε along random signs", columns[0], columns[-1], (-1, 0, 1))
    y = Axis("ε along the gradient's signs", rows[0], rows[-1], (-1, 0, 1))
    at_x, at_y = places(x, y, SIDE)
    wide, high = (at_x(columns[1]) - at_x(columns[0])), (at_y(rows[0]) - at_y(rows[1]))
    cells = [
        f'<rect x="{at_x(u) - wide / 2:.1f}" y="{at_y(t) - high / 2:.1f}" width="{wide:.1f}" height="{high:.1f}" '
        f'fill="{_shade(value / end)}"><title>{value:.3g}</title></rect>'
        for t, row in zip(rows, loss, strict=True)
        for u, value in zip(columns, row, strict=True)
    ]
    body = "".join(cells) + "".join(
        [
            text((at_x(x.low) + at_x(x.high)) / 2, SIDE - 5, x.label, "label", "middle"),
            text(6, 14, f"{y.label}; blue: the label is ahead, red: another", "label"),
            *(text(at_x(t), SIDE - 20, f"{t:g}", "tick", "middle") for t in x.ticks),
            *(text(18, at_y(t) + 4, f"{t:g}", "tick", "end") for t in y.ticks),
        ]
    )
    told = f"mean margin of {surface['images']} images, from {min(map(min, loss)):.3g} to {max(map(max, loss)):.3g}"
    return _styled(frame("surface", "Loss surface", told, body, SIDE))


def _shade(share: float) -> str:
    """From white at 0 to blue at −1 and red at 1."""
    end = (192, 40, 45) if share > 0 else (31, 95, 168)
    return "#" + "".join(f"{round(255 + (tone - 255) * min(abs(share), 1)):02x}" for tone in end)


def _alone(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """A chart with its names inside."""
    names = [text(WIDTH - RIGHT, 14 + 13 * n, item.name, f"key s{item.style}", "end") for n, item in enumerate(series)]
    return _styled(chart("chart", title, x, y, series, "".join(names)))


def _styled(drawn: Markup) -> str:
    colours = [
        f".line.s{n} {{ stroke: {tone} }} .mark.s{n}, .key.s{n} {{ fill: {tone} }}" for n, tone in enumerate(COLOURS)
    ]
    style = "<style>" + STYLE + "\n".join(colours) + "</style>"
    alone = str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return alone.replace("<title", style + "<title", 1) + "\n"
