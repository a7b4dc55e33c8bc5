"""What became of images: misclassified, broken, open or certified; and the shares that stand, side by side."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from bpfc.certification import join
from bpfc.report.figures import percent
from bpfc.report.page.records import Evaluated, Record
from bpfc.report.page.svg import PERCENT, RIGHT, STYLES, WIDTH, frame, legend, marker, text

KINDS = {
    "clean": "misclassified as it is",
    "broken": "broken by an attack",
    "open": "neither broken nor certified",
    "certified": "certified: proven that no perturbation within ε changes the answer",
}
"""What can become of an image, as the bar shows it."""
ROOM = 34
"""Letters for the names of attacks below a bar."""


class Outcome(NamedTuple):
    """What became of an evaluation's images.

    Attributes:
        run: its label, with the class of its method.
        evaluation: what was counted.
        shares: of the images, by the names of KINDS; certified is None where nothing was certified.
        by: how many images each attack broke first, in the order of the attacks; none without a ledger.
    """

    run: str
    evaluation: Evaluated
    shares: dict[str, float | None]
    by: dict[str, int]


def outcomes(records: Sequence[Record]) -> list[Outcome]:
    """Of each run the evaluation that says most: with images certified, else of most images, broken by most.

    Raises:
        ContradictionError: an image is certified and broken.
    """
    found = []
    for record in records:
        every = [_outcome(record, item) for item in record.evaluations if item.images]
        if every:
            found.append(
                max(
                    every,
                    key=lambda each: (
                        bool(each.shares["certified"]),
                        each.evaluation.images,
                        each.shares["broken"],
                        bool(each.evaluation.rows),
                    ),
                )
            )
    return found


def _outcome(record: Record, item: Evaluated) -> Outcome:
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
    return Outcome(record.titled, item, shares, {name: by[name] for name in item.attacks if by[name]})


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
    step, wide = 80, WIDTH - 8
    body, told = [], []
    for place, outcome in enumerate(found):
        top = 8 + place * step
        body.append(text(4, top + 12, outcome.run, "name"))
        at, words = 4.0, []
        for kind, share in outcome.shares.items():
            if share:
                width = wide * share
                body.append(f'<rect class="bar {kind}" x="{at:.1f}" y="{top + 18}" width="{width:.1f}" height="14"/>')
                at += width
            if share is not None:
                words.append(f"{_WORDS[kind]} {percent(share)}")
        under = _under(outcome.evaluation)
        body.append(text(4, top + 47, " · ".join(words), "tick"))
        body.append(text(4, top + 64, under, "tick"))
        told.append(f"{outcome.run}, {under}: " + ", ".join(words))
    keys = Markup("").join(
        Markup('<li><svg class="key" viewBox="0 0 28 12" aria-hidden="true">{}</svg> {}</li>').format(
            Markup(f'<rect class="bar {kind}" x="2" y="0" width="24" height="12"/>'), shown
        )
        for kind, shown in KINDS.items()
    )
    drawn = frame(
        slug, "What became of the images, in % of them", "; ".join(told), "".join(body), 12 + step * len(found)
    )
    return drawn + Markup('<ul class="legend">{}</ul>').format(keys)


def _under(item: Evaluated) -> str:
    """Of how many images, and under which attacks."""
    names = ", ".join(item.attacks)
    attacks = names if len(names) < ROOM else f"{len(item.attacks)} attacks of {item.name}"
    return f"{item.images:,} images: {attacks}"


_WORDS = {"clean": "wrong", "broken": "broken", "open": "open", "certified": "certified"}


def accuracy_dots(rows: Sequence[tuple[str, dict[str, tuple[float, float, float]]]], slug: str = "glance") -> Markup:
    """A block a run; in it a track an attack, so that no mark hides another, with its 95 % interval as a bar.

    Args:
        rows: label, and by attack the share with the ends of its interval.
        slug: of the figure's ids.
    """
    attacks = list(dict.fromkeys(name for _, found in rows for name in found))[:STYLES]
    top, track = 6, 9
    heights = [30 + track * sum(name in found for name in attacks) for _, found in rows]
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
        body.append(text(8, y - 2, label, "name"))
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
