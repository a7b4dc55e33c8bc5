"""The figures of an audit, for a page and as files that stand alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from bpfc.report.page.svg import LEFT, PERCENT, RIGHT, WIDTH, Axis, Series, chart, frame, places, text, ticks

STYLE = """
svg { background: #fff; font-family: system-ui, sans-serif; font-size: 11px; fill: #222 }
.grid { stroke: #ddd; fill: none } .axis { stroke: #777; fill: none } .line { fill: none; stroke-width: 2 }
.tick { font-size: 10px; fill: #555 }
"""
COLOURS = ("#0b5fa5", "#c2500a", "#0a7a57")
SIDE = 210
"""Height of the loss surface, in a figure's units."""
SCALE = 70
"""Room for its scale of shades beside it."""


class Drawing(NamedTuple):
    """A figure of an audit.

    Attributes:
        file: its name as a file of its own.
        drawn: SVG, in the classes of whoever shows it.
        names: of its lines, each with its style.
        told: what must be said below it.
    """

    file: str
    drawn: Markup
    names: list[tuple[str, int]]
    told: str


def drawings(figures: Mapping[str, Any], slug: str = "audit") -> Iterator[Drawing]:
    """What `bpfc.auditing.figures` gives, drawn.

    Args:
        figures: of an audit.json of schema 2.
        slug: tells its figures from those of other audits on the same page.
    """
    radii = {"PGD on the margin": figures["eps"]}
    again = {"short PGD on what plain PGD left": figures["restarts"]}
    steps = "Each attack on what those before it left."
    yield _shares(slug, "eps", "ε in ℓ∞, units of [0, 1]", radii, "Under PGD on the margin.", stairs=False)
    yield _shares(slug, "steps", "steps", figures["steps"], steps)
    yield _shares(slug, "restarts", "restarts", again, "Of short PGD, on what plain PGD left.")
    if figures["climb"]["median"]:
        yield _climb(slug, figures["climb"])
    if figures["surface"] is not None:
        yield _surface(slug, figures["surface"])


def draw(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same as file names and SVG that stands alone, with the names of its lines inside."""
    for item in drawings(figures):
        names = [
            text(WIDTH - RIGHT, 14 + 13 * n, name, f"key s{style}", "end") for n, (name, style) in enumerate(item.names)
        ]
        yield item.file, _styled(item.drawn, "".join(names))


def _shares(
    slug: str, over: str, unit: str, lines: Mapping[str, Sequence[Sequence[float]]], told: str, stairs: bool = True
) -> Drawing:
    last = max(points[-1][0] for points in lines.values())
    series = [
        Series(name, [(at, 100 * share) for at, share in points], n, stairs)
        for n, (name, points) in enumerate(lines.items())
    ]
    title = f"Accuracy over {'ε' if over == 'eps' else over}"
    drawn = chart(f"{slug}-{over}", title, Axis(unit, 0, last, ticks(0, last)), PERCENT, series)
    return Drawing(f"accuracy-over-{over}.svg", drawn, [(each.name, each.style) for each in series], f"{title}. {told}")


def _climb(slug: str, climb: Mapping[str, Sequence[float]]) -> Drawing:
    names = {"low": "lower quartile", "median": "median", "high": "upper quartile"}
    low, high = min(climb["low"]), max(0.0, *climb["high"])
    steps = len(climb["median"]) - 1
    y = Axis("highest margin so far, of images that stand", low, high, ticks(low, high))
    x = Axis("steps", 0, steps, ticks(0, steps))
    series = [Series(shown, list(enumerate(climb[name])), n) for n, (name, shown) in enumerate(names.items())]
    title = "Margin along an attack"
    told = f"{title}. Above 0 another class is ahead of the label's."
    drawn = chart(f"{slug}-climb", title, x, y, series)
    return Drawing("loss-along-attack.svg", drawn, [(each.name, each.style) for each in series], told)


def _surface(slug: str, surface: Mapping[str, Any]) -> Drawing:
    """Cells from blue (the label is ahead) to red (another class is), and what the shades stand for beside them."""
    rows, columns, loss = surface["gradient"], surface["random"], surface["loss"]
    end = max(abs(value) for row in loss for value in row) or 1.0
    x = Axis("ε along random signs", columns[0], columns[-1], (-1, 0, 1))
    y = Axis("ε along the gradient's signs", rows[0], rows[-1], (-1, 0, 1))
    whole, at_y = places(x, y, SIDE)

    def at_x(value: float) -> float:
        """Leaves room for the scale."""
        return round(LEFT + (whole(value) - LEFT) * (1 - SCALE / (WIDTH - LEFT - RIGHT)), 1)

    wide, high = (at_x(columns[1]) - at_x(columns[0])), (at_y(rows[0]) - at_y(rows[1]))
    cells = [
        f'<rect x="{at_x(u) - wide / 2:.1f}" y="{at_y(t) - high / 2:.1f}" width="{wide:.1f}" height="{high:.1f}" '
        f'fill="{_shade(value / end)}"><title>{value:.3g}</title></rect>'
        for t, row in zip(rows, loss, strict=True)
        for u, value in zip(columns, row, strict=True)
    ]
    crisp = f'<g shape-rendering="crispEdges">{"".join(cells)}{_scale(at_y(1), at_y(-1))}</g>'
    body = crisp + "".join(
        [
            text((at_x(x.low) + at_x(x.high)) / 2, SIDE - 5, x.label, "label", "middle"),
            text(6, 14, y.label, "label"),
            text(WIDTH - 6, 14, "margin", "label", "end"),
            *(text(WIDTH - 6, at_y(t) + 4, f"{t * end:.3g}", "tick", "end") for t in (-1, 0, 1)),
            *(text(at_x(t), SIDE - 20, f"{t:g}", "tick", "middle") for t in x.ticks),
            *(text(18, at_y(t) + 4, f"{t:g}", "tick", "end") for t in y.ticks),
        ]
    )
    said = f"mean margin of {surface['images']} images, from {min(map(min, loss)):.3g} to {max(map(max, loss)):.3g}"
    told = (
        f"Loss surface: the {said}, at x + ε (t · sign of the gradient + u · random signs). Blue: the label is ahead; "
        "red: another class. A surface that rises along the gradient and hardly aside is one that gradients can climb."
    )
    return Drawing("loss-surface.svg", frame(f"{slug}-surface", "Loss surface", said, body, SIDE), [], told)


def _scale(top: float, floor: float, parts: int = 21) -> str:
    """The shades, from the bluest below to the reddest."""
    high = (floor - top) / parts
    return "".join(
        f'<rect x="{WIDTH - RIGHT - SCALE + 14}" y="{floor - high * (n + 1):.1f}" width="12" height="{high + 0.1:.1f}" '
        f'fill="{_shade(2 * n / (parts - 1) - 1)}"/>'
        for n in range(parts)
    )


def _shade(share: float) -> str:
    """From white at 0 to blue at −1 and red at 1."""
    end = (192, 40, 45) if share > 0 else (31, 95, 168)
    return "#" + "".join(f"{round(255 + (tone - 255) * min(abs(share), 1)):02x}" for tone in end)


def _styled(drawn: Markup, names: str) -> str:
    colours = [
        f".line.s{n} {{ stroke: {tone} }} .mark.s{n}, .key.s{n} {{ fill: {tone} }}" for n, tone in enumerate(COLOURS)
    ]
    style = "<style>" + STYLE + "\n".join(colours) + "</style>"
    alone = str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return alone.replace("<title", style + "<title", 1).removesuffix("</svg>") + names + "</svg>\n"
