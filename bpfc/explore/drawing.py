"""What the page shows: an image with its bit planes, and iterates with the logits of each network. HTML and SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from markupsafe import Markup
from torch import Tensor

from bpfc.bitplanes import bit_planes
from bpfc.explore.steps import Step
from bpfc.report.page.pictures import amplified, strip
from bpfc.report.page.svg import Axis, Series, chart, frame, legend, places, text, ticks

ROW, MIDDLE, REACH = 19, 232, 104
"""Of the bars of logits: the height of a row, where zero is, and how far a bar goes to either side."""


def image_of(image: Tensor, told: str) -> Markup:
    """An image (C, H, W), with the words that describe it."""
    return Markup('<figure class="chosen"><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(
        strip([image]), f"The image: {told}", told
    )


def planes_of(image: Tensor, coarse: Tensor, k: int, answers: Sequence[tuple[str, str, str]]) -> Markup:
    """The image, its bit planes and its coarse version, with what networks take image and coarse version for.

    Args:
        image, coarse: (C, H, W) in [0, 1].
        k: bit planes dropped.
        answers: (network, class of the image, class of the coarse version).
    """
    planes = bit_planes(image)
    shown = [("image", image, ""), ("q(x)", coarse, "")]
    shown[1:1] = [(f"plane {place}", planes[place], "dropped" if place < k else "kept") for place in range(7, -1, -1)]
    cells = [
        Markup('<figure class="{}"><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(
            fate, strip([part]), f"{name} {fate}".strip(), name
        )
        for name, part, fate in shown
    ]
    parts = [
        Markup("<li><b>{}</b> takes the image for {}, its coarse version for {}.</li>").format(*answer)
        for answer in answers
    ]
    return Markup(
        '<div class="planes">{}</div><p class="soft">The dimmed planes are dropped. The pixels of q(x), the '
        "coarse version, have {} values, those of the image {}.</p><ul>{}</ul>"
    ).format(Markup("").join(cells), len(coarse.unique()), len(image.unique()), Markup("").join(parts))


@dataclass
class Course:
    """An attack on one network so far.

    Attributes:
        name: of the network.
        image: (C, H, W), what is attacked.
        label: what the attack leads away from.
        clean: logits of the image.
        steps: so far.
    """

    name: str
    image: Tensor
    label: int
    clean: Tensor
    steps: list[Step] = field(default_factory=list)

    @property
    def margins(self) -> list[float]:
        """For each iterate, by how much the label's logit is above the largest other; below 0 it is misclassified.

        Before the first step, of the image itself.
        """
        found = []
        for logits in [step.logits for step in self.steps] or [self.clean]:
            others = logits.clone()
            others[self.label] = -torch.inf
            found.append(float(logits[self.label] - others.max()))
        return found

    def until(self, number: int) -> "Course":
        """As it was after so many steps."""
        return replace(self, steps=self.steps[: number + 1])


def courses_of(courses: Sequence[Course], classes: Sequence[str], eps: float, total: int) -> Markup:
    """Each network with its iterate, and the margins of all over the steps; the same room before the first step."""
    end = _end(courses)
    cards = [_card(course, place, classes, eps, total, end) for place, course in enumerate(courses)]
    cards.append(_margins(courses, total))
    return Markup('<div class="networks">{}</div>').format(Markup("").join(cards))


def _end(courses: Sequence[Course]) -> float:
    """A round number that no logit of any network and step is beyond: one scale for all bars."""
    every = [logits for course in courses for logits in (course.clean, *(step.logits for step in course.steps))]
    most = max(float(torch.stack(every).abs().max()), 1e-6)
    power = 10 ** math.floor(math.log10(most))
    return next(factor * power for factor in (1, 2, 3, 5, 10) if most <= factor * power)


def _card(course: Course, place: int, classes: Sequence[str], eps: float, total: int, end: float) -> Markup:
    if course.steps:
        last = course.steps[-1]
        logits, change = last.logits, last.image - course.image
        pictures = [course.image, amplified(change, eps), last.image]
        alt = f"image, perturbation and perturbed image after step {last.number}"
        told = f"Step {last.number} of {total}: {verdict(course, classes)}"
    else:
        pictures = [course.image, amplified(torch.zeros_like(course.image), eps), course.image]
        logits, alt = course.clean, "image, no perturbation yet, and the image again"
        told = f"Not attacked: {verdict(course, classes)}"
    return Markup('<section class="network"><h3>{}</h3><img src="{}" alt="{}"><p>{}</p>{}</section>').format(
        course.name, strip(pictures), f"{course.name}: {alt}", told, _bars(course, logits, place, classes, end)
    )


def verdict(course: Course, classes: Sequence[str]) -> str:
    """What the network takes the newest iterate for, and since which step it is broken."""
    logits = course.steps[-1].logits if course.steps else course.clean
    told = f"taken for {classes[int(logits.argmax())]}"
    if int(course.clean.argmax()) != course.label:
        return told + f"; as it is, for {classes[int(course.clean.argmax())]}: wrong before the attack"
    if course.steps and course.steps[-1].broken is not None:
        return told + f"; broken by step {course.steps[-1].broken}"
    return told + ("; not broken" if course.steps else "")


def _bars(course: Course, logits: Tensor, place: int, classes: Sequence[str], end: float) -> Markup:
    """A bar for each class's logit, from zero to either side; the label's is blue, the answer's name is marked."""
    floor, parts = 8 + ROW * len(classes), []
    for tick in (-1, -0.5, 0, 0.5, 1):
        x = MIDDLE + REACH * tick
        parts.append(f'<path class="{"axis" if tick == 0 else "grid"}" d="M{x:g} 4V{floor}"/>')
        parts.append(text(x, floor + 14, f"{end * tick:g}", "tick", "middle"))
    answer = int(logits.argmax())
    for row, (name, value) in enumerate(zip(classes, logits.tolist(), strict=True)):
        y, length = 8 + ROW * row, abs(value) / end * REACH
        begin = MIDDLE if value >= 0 else MIDDLE - length
        kind = "label" if row == course.label else "other"
        parts.append(f'<rect class="logit {kind}" x="{begin:.1f}" y="{y}" width="{length:.1f}" height="{ROW - 5}"/>')
        shown = ("▸ " if row == answer else "") + name
        parts.append(text(76, y + ROW - 8, shown, "name" if row == answer else "tick", "end"))
        parts.append(text(118, y + ROW - 8, f"{value:.1f}", "tick", "end"))
    parts.append(text(MIDDLE, floor + 30, "logit", "label", "middle"))
    title = f"{course.name}: logits of {len(classes)} classes"
    told = f"largest: {classes[answer]}; label: {classes[course.label]}"
    return frame(f"logits{place}", title, told, "".join(parts), floor + 38)


def _margins(courses: Sequence[Course], total: int) -> Markup:
    margins = [course.margins for course in courses]
    flat = [value for values in margins for value in values]
    high, low = max(1.0, *flat), min(-1.0, *flat)
    x = Axis("steps", 0, max(total, 1), [tick for tick in ticks(0, max(total, 1)) if tick == round(tick)])
    y = Axis("logit of the label − largest other", low, high, ticks(low, high))
    at_x, at_y = places(x, y, 210)
    series = [
        Series(course.name, list(enumerate(values)), style)
        for style, (course, values) in enumerate(zip(courses, margins, strict=True))
    ]
    marks = f'<path class="kept" d="M{at_x(0):g} {at_y(0):g}H{at_x(max(total, 1)):g}"/>'
    drawn = chart("margins", "Margins over the steps", x, y, series, marks)
    return Markup(
        '<figure class="margins"><h3>Margins</h3>{}{}<figcaption>Below the dotted line the network is wrong.'
        "</figcaption></figure>"
    ).format(drawn, legend((each.name, each.style) for each in series))
