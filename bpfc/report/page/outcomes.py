"""What became of images: misclassified, broken, open or certified; and the shares that stand, side by side."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from bpfc.certification import join
from bpfc.report.figures import DATA, percent
from bpfc.report.page.records import Evaluated, Record, radius
from bpfc.report.page.svg import PERCENT, RIGHT, STYLES, WIDTH, frame, legend, lines, marker, text

KINDS = {
    "clean": "misclassified as it is",
    "broken": "broken by an attack",
    "open": "neither broken nor certified",
    "certified": "certified: proven that no perturbation within ε changes the answer",
}
"""What can become of an image, as the bar shows it."""
ROOM = 34
"""Letters for the names of attacks below a bar."""
NAME, TICK, LINE = 14, 11.3, 16
"""Sizes of names and of what stands below a bar (that of a bold font as wide), and from one line to the next."""


class Outcome(NamedTuple):
    """What became of the images of an evaluation; of a certification, where nothing was attacked.

    Attributes:
        run: its label, with the class of its method.
        source: the folder of what was counted.
        images: how many.
        radius: norm and ε.
        under: radius, images and attacks, for people.
        shares: of the images, by the names of KINDS; certified is None where nothing was certified, broken where
            nothing was attacked.
        by: how many images each attack broke first, in the order of the attacks; none without a ledger.
        others: radii that the run was attacked or certified at besides this one.
    """

    run: str
    source: str
    images: int
    radius: str
    under: str
    shares: dict[str, float | None]
    by: dict[str, int]
    others: list[str]


def outcomes(records: Sequence[Record]) -> list[Outcome]:
    """Of each run the evaluation that says most: with images certified, else of most images, broken by most.

    Raises:
        ContradictionError: an image is certified and broken.
    """
    several = len({record.data for record in records}) > 1
    found = []
    for record in records:
        data = f"{DATA.get(record.data, record.data)}, " if several else ""
        every = [_outcome(record, item, data) for item in record.evaluations if item.images]
        if not record.evaluations:
            every = [_proven(record, name, content, data) for name, content in record.certifications.items()]
        if every:
            found.append(max(every, key=_says))
    return found


def _says(each: Outcome) -> tuple[bool, int, float, bool]:
    """How much."""
    return bool(each.shares["certified"]), each.images, each.shares["broken"] or 0.0, bool(each.by)


def _outcome(record: Record, item: Evaluated, data: str) -> Outcome:
    """From the summary, which a ledger agrees with where one is kept."""
    total = item.images
    right, standing = (round(total * item.summary[name]["accuracy"]) for name in ("clean", "worst_case"))
    certified = _certified(record, item)
    shares: dict[str, float | None] = {
        "clean": (total - right) / total,
        "broken": (right - standing) / total,
        "open": (standing - (certified or 0)) / total,
        "certified": None if certified is None else certified / total,
    }
    by = Counter(row["broken_by"] for row in item.rows)
    names = ", ".join(item.attacks)
    attacks = names if len(names) < ROOM else f"{len(item.attacks)} attacks of {item.name}"
    return Outcome(
        record.titled,
        item.name,
        total,
        item.radius,
        f"{data}{item.radius}, {total:,} images: {attacks}",
        shares,
        {name: by[name] for name in item.attacks if by[name]},
        record.other_radii(item.radius),
    )


def _proven(record: Record, name: str, content: dict[str, Any], data: str) -> Outcome:
    """From certificates alone."""
    right, certified = content["clean"]["accuracy"], content["certified"]["accuracy"]
    shares = {"clean": 1 - right, "broken": None, "open": max(0.0, right - certified), "certified": certified}
    at, images = radius(content), int(content["images"])
    under = f"{data}{at}, {images:,} images: no attack"
    return Outcome(record.titled, name, images, at, under, shares, {}, record.other_radii(at))


def left_out(found: Sequence[Outcome]) -> str:
    """Which radii the bars do not show, as a sentence; nothing where they show all."""
    told = [f"{outcome.run} at {' and '.join(outcome.others)}" for outcome in found if outcome.others]
    return f" Not drawn here: {'; '.join(told)}." if told else ""


def _certified(record: Record, item: Evaluated) -> int | None:
    """How many of the evaluation's images are certified, if they all met a certifier at the same ε and weights."""
    for content in record.certifications.values():
        same = all(content.get(name) == item.summary.get(name) for name in ("eps", "weights_sha256"))
        indices = {row["index"] for row in content["rows"]}
        if same and item.rows and item.norm == "linf" and indices >= {row["index"] for row in item.rows}:
            joined = join(item.rows, content["rows"])
            return sum(row["certified_by"] is not None for row in joined)
    if "between" in item.summary:  # where both were joined, and their rows are not kept
        return round(item.images * item.summary["between"]["certified"])
    return None


def outcome_bars(found: Sequence[Outcome], slug: str = "outcomes") -> Markup:
    """A bar a run, from misclassified to certified, with its figures below, and under what."""
    wide, top = WIDTH - 8, 8
    body: list[str] = []
    told = []
    for outcome in found:
        at, words = 4.0, []
        top += _name(body, outcome.run, 4, top + 12)
        for kind, share in outcome.shares.items():
            if share:
                width = wide * share
                body.append(f'<rect class="bar {kind}" x="{at:.1f}" y="{top + 18}" width="{width:.1f}" height="14"/>')
                at += width
            if share is not None:
                words.append(f"{_WORDS[kind]} {percent(share)}")
        body.append(text(4, top + 47, " · ".join(words), "tick"))
        under = lines(outcome.under, TICK)
        body += [text(4, top + 64 + LINE * n, line, "tick") for n, line in enumerate(under)]
        top += 80 + LINE * (len(under) - 1)
        told.append(f"{outcome.run}, {outcome.under}: " + ", ".join(words))
    keys = Markup("").join(
        Markup('<li><svg class="key" viewBox="0 0 28 12" aria-hidden="true">{}</svg> {}</li>').format(
            Markup(f'<rect class="bar {kind}" x="2" y="0" width="24" height="12"/>'), shown
        )
        for kind, shown in KINDS.items()
        if any(outcome.shares[kind] is not None for outcome in found)
    )
    drawn = frame(slug, "What became of the images, in % of them", "; ".join(told), "".join(body), top + 4)
    return drawn + Markup('<ul class="legend">{}</ul>').format(keys)


def _name(body: list[str], words: str, x: float, y: float) -> int:
    """Puts a run's name into a figure; how much higher it is than one line."""
    found = lines(words, NAME, WIDTH - 2 * x)
    body += [text(x, y + LINE * n, line, "name") for n, line in enumerate(found)]
    return LINE * (len(found) - 1)


_WORDS = {"clean": "wrong", "broken": "broken", "open": "open", "certified": "certified"}


def accuracy_dots(rows: Sequence[tuple[str, dict[str, tuple[float, float, float]]]], slug: str = "glance") -> Markup:
    """A block a run; in it a track an attack, so that no mark hides another, with its 95 % interval as a bar.

    Args:
        rows: label, and by attack the share with the ends of its interval.
        slug: of the figure's ids.
    """
    attacks = list(dict.fromkeys(name for _, found in rows for name in found))[:STYLES]
    top, track = 6, 9
    heights = [
        30 + track * sum(name in found for name in attacks) + LINE * (len(lines(label, NAME, WIDTH - 16)) - 1)
        for label, found in rows
    ]
    floor = top + sum(heights)

    def at(share: float) -> float:
        return round(8 + (WIDTH - 8 - RIGHT) * share, 1)

    body = [
        f'<path class="grid" d="M{at(tick / 100):g} {top}V{floor}"/>'
        + text(at(tick / 100), floor + 16, f"{tick:g}", "tick", "middle")
        for tick in PERCENT.ticks
    ]
    told = []
    for place, (label, found) in enumerate(rows):
        y = top + sum(heights[:place]) + 18
        y += _name(body, label, 8, y - 2)
        for style, name in enumerate(attacks):
            if name in found:
                share, low, high = found[name]
                y += track
                body.append(f'<path class="grid" d="M8 {y}H{WIDTH - RIGHT}"/>')
                bar = f'x="{at(low):g}" y="{y - 6}" width="{at(high) - at(low):.1f}" height="12"'
                body.append(f'<rect class="interval s{style}" {bar}/>' + marker(at(share), y, style))
        told.append(f"{label}: " + ", ".join(f"{name} {percent(found[name][0])}" for name in attacks if name in found))
    body.append(text(WIDTH - RIGHT, floor + 32, PERCENT.label, "label", "end"))
    drawn = frame(slug, "Accuracy, clean and under attacks, in %", "; ".join(told), "".join(body), floor + 38)
    return drawn + legend((name, style) for style, name in enumerate(attacks))
