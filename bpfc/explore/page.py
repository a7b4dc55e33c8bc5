"""The page itself: which controls there are, and what each does."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from markupsafe import Markup
from torch import Tensor, nn

from bpfc.bitplanes import quantize
from bpfc.data import AnyImages, DataError, to_float
from bpfc.explore.drawing import Course, courses_of, image_of, planes_of, verdict
from bpfc.explore.pictures import BYTES, FORMATS, PIXELS, read_picture
from bpfc.explore.steps import pgd_steps
from bpfc.judge import exact_logits

FINEST = 0.001
"""The smallest ε, and a step of its slider, whose field takes any figure; keys move by a step."""
STEPS = 100
"""The most that an attack may have."""
SECONDS = 30.0
"""After which an attack ends, whatever is left of it."""
AT_ONCE, WAITING = 2, 8
"""Attacks of all visitors: that run side by side, and that wait. One more is turned away with a word. What takes one
forward does not queue: Gradio counts whatever does, and would turn away who only looks at an image."""
FRAME = 0.1
"""Seconds that each step is to be seen, at least; a browser that falls behind would show them after the end."""


@dataclass(frozen=True)
class Network:
    """A network, in eval mode on the CPU, under the name that people know it by."""

    name: str
    model: nn.Module


@dataclass(frozen=True)
class Scene:
    """What the page is about.

    Attributes:
        networks: side by side; all take the same images.
        images: test images to choose from.
        data: name of their data set, for people.
        classes: names of the classes, in the order of the logits.
        eps, k: where the sliders begin.
    """

    networks: Sequence[Network]
    images: AnyImages
    data: str
    classes: Sequence[str]
    eps: float
    k: int


@dataclass(frozen=True)
class Walk:
    """An attack, as far as it went: that of each network, with ε and the steps that were asked for."""

    courses: Sequence[Course]
    eps: float
    steps: int


@dataclass(frozen=True)
class Chosen:
    """An image (C, H, W) in [0, 1]. Without a label, each network's answer to it is what an attack leads away from."""

    image: Tensor
    label: int | None
    index: int
    told: str


def build_page(scene: Scene) -> gr.Blocks:
    """The page, with a bounded queue; `bpfc.explore.server` serves it."""
    names = " and ".join(network.name for network in scene.networks)
    title = f"{names} on {scene.data}"
    with gr.Blocks(title=f"bpfc explore: {title}", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        chosen, walked = gr.State(), gr.State()
        _words(
            Markup(
                "<h1>{}</h1><p class='soft'>Choose an image. Drop its low bit planes. Attack it, and watch the "
                "networks answer.</p>"
            ).format(title)
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                _words("<h2>Image</h2>")
                with gr.Row():
                    with gr.Column(min_width=180):
                        picture = _words("")
                    with gr.Column(min_width=180):
                        index = gr.Number(0, label=f"Test image, 0 to {len(scene.images) - 1}", minimum=0)
                        wanted = gr.Dropdown(["any class", *scene.classes], value="any class", label="Next of class")
                        following = gr.Button("Next image")
                upload = gr.File(label="Or a picture of your own", file_types=["image"], type="filepath", height=160)
                refused = _words("")
                inverted = gr.Checkbox(False, label="Swap dark and light in it")
                _words(
                    f"<p class='soft'>{', '.join(FORMATS)}; up to {BYTES / 1e6:.0f} MB and {PIXELS / 1e6:.0f} million "
                    "pixels. Its middle is taken, as small as the test images. It is deleted within two hours.</p>"
                )
            with gr.Column(scale=3, min_width=280):
                _words("<h2>Bit planes</h2>")
                k = gr.Slider(1, 7, value=scene.k, step=1, label="k, bit planes to drop")
                planes = _words("")
        _words("<h2>Attack</h2>")
        with gr.Row():
            eps = gr.Slider(FINEST, 0.5, value=scene.eps, step=FINEST, label="ε, largest change of a pixel in [0, 1]")
            steps = gr.Slider(1, STEPS, value=20, step=1, label="Steps of PGD")
        with gr.Row():
            attack = gr.Button("Attack", variant="primary")
            stop = gr.Button("Stop")
        told = gr.HTML("", elem_classes="explore told", js_on_load=None)
        back = gr.Slider(0, STEPS, value=0, step=1, label="Look at step (after an attack)", interactive=False)
        shown = _words("")
        _words(
            "<p class='soft'>Each network is attacked for itself, with its own gradient, from the same random start. "
            "From left to right: the image, the perturbation (amplified: mid-grey is no change, black −ε, white ε), "
            "the perturbed image. A step is 2.5 ε / steps long. The label’s bar is blue, ▸ marks the answer, all bars "
            "have one scale. A step breaks the network if the judge of <code>bpfc evaluate</code> says so. "
            f"{AT_ONCE} attacks run at once; who waits is told the place in the queue, and of how many.</p>"
        )

        look = _Handlers(scene)
        plain: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        quick = plain | {"queue": False}
        views = [picture, planes, shown, told, refused, walked, back]
        blocks.load(look.test_image, [index, k], [chosen, *views], **quick)
        running = attack.click(
            look.attack,
            [chosen, eps, steps],
            [shown, told, walked, back],
            concurrency_id="attack",
            concurrency_limit=AT_ONCE,
            **plain | {"show_progress": "minimal", "show_progress_on": told},  # the place of who waits
        )
        # Another image ends the attack on the one before, and is shown after that.
        for event, handler, given, more in (
            (index.input, look.test_image, [index, k], []),
            (following.click, look.next_image, [index, wanted, k], [index]),
            (upload.upload, look.own_picture, [upload, inverted, k], []),
            (inverted.input, look.own_picture, [upload, inverted, k], []),
        ):
            ended = event(None, cancels=[running], trigger_mode="multiple", api_visibility="private")
            ended.then(handler, given, [*more, chosen, *views], trigger_mode="always_last", **quick)
        k.change(look.planes, [chosen, k], planes, trigger_mode="always_last", **quick)
        stop.click(None, cancels=[running], api_visibility="private")
        back.input(look.step, [walked, back], shown, trigger_mode="always_last", **quick)
        upload.clear(lambda: "", None, refused, **quick)
    blocks.queue(max_size=WAITING)
    return blocks


def look_of_it() -> dict[str, Any]:
    """Theme and style, which Gradio takes where a page is served. Fonts are the visitor's own: none is fetched."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    theme = gr.themes.Base(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"])
    return {"theme": theme, "css": (files("bpfc.explore") / "style.css").read_text(encoding="utf-8")}


def _words(html: str) -> gr.HTML:
    return gr.HTML(html, elem_classes="explore", js_on_load=None)


UNCHANGED = (gr.skip(),) * 8
"""Of the image and all that shows it."""


class _Handlers:
    """What the controls do. Values are checked here again: a page's bounds hold for its visitors, not for a script."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def test_image(self, index: float | None, k: float) -> tuple[Any, ...]:
        if index is None:  # while one types
            return UNCHANGED
        place = _whole(index, 0, len(self.scene.images) - 1, "test image")
        label = int(self.scene.images.labels[place])
        image = to_float(self.scene.images[place : place + 1].pixels[0])
        return self._views(Chosen(image, label, place, f"test image {place}, {self.scene.classes[label]}"), k)

    def next_image(self, index: float | None, wanted: str, k: float) -> tuple[Any, ...]:
        labels = self.scene.images.labels
        after = torch.arange(len(labels)).roll(-1 - _whole(index or 0, 0, len(labels) - 1, "test image"))
        if wanted in self.scene.classes:
            after = after[labels[after] == self.scene.classes.index(wanted)]
        if not len(after):
            raise gr.Error(f"no test image of class {wanted}", print_exception=False)
        place = int(after[0])
        return place, *self.test_image(place, k)

    def own_picture(self, path: str | None, inverted: bool, k: float) -> tuple[Any, ...]:
        if path is None:
            return UNCHANGED
        channels, size = self.scene.images.shape[1:3]
        try:
            image = read_picture(Path(path), channels, size, inverted=inverted)
        except DataError as error:
            told = Markup('<p role="alert">Not taken: {}.</p>').format(error)
            return *UNCHANGED[:5], told, *UNCHANGED[6:]
        return self._views(Chosen(image, None, 0, f"your picture, at {size} × {size} pixels"), k)

    def planes(self, chosen: Chosen | None, k: float) -> str:
        chosen = _there(chosen)
        drop = _whole(k, 1, 7, "k")
        coarse = quantize(chosen.image, drop, generator=torch.Generator().manual_seed(0))
        both = torch.stack([chosen.image, coarse])
        answers = []
        for network in self.scene.networks:
            classes = [self.scene.classes[place] for place in exact_logits(network.model, both).argmax(dim=1).tolist()]
            answers.append((network.name, classes[0], classes[1]))
        return planes_of(chosen.image, coarse, drop, answers)

    def attack(self, chosen: Chosen | None, eps: float, steps: float) -> Iterator[tuple[Any, ...]]:
        """The iterates of all networks, as they are made; the words come at the end, for a screen reader too.

        From the first on one can go back to earlier ones, also after a stop.
        """
        chosen = _there(chosen)
        radius, count = _within(eps, FINEST, 1, "ε"), _whole(steps, 1, STEPS, "steps")
        courses, began = self._courses(chosen), time.monotonic()
        walk = Walk(courses, radius, count)
        walks = [
            pgd_steps(network.model, course.image, course.label, radius, count, chosen.index)
            for network, course in zip(self.scene.networks, courses, strict=True)
        ]
        for number, together in enumerate(zip(*walks, strict=True)):
            for course, step in zip(courses, together, strict=True):
                course.steps.append(step)
            late = time.monotonic() - began > SECONDS
            ended = f"Ended after {number} steps: {SECONDS:.0f} s are over. " if late and number < count else ""
            over = bool(ended) or number == count
            view = courses_of(courses, self.scene.classes, radius, count)
            words = _summary(courses, self.scene.classes, ended) if over else ""
            slider = gr.update(maximum=count, value=number, interactive=True) if over or number == 0 else gr.skip()
            yield view, words, walk if number == 0 else gr.skip(), slider
            if over:
                return
            time.sleep(max(0.0, began + (number + 1) * FRAME - time.monotonic()))

    def step(self, walk: Walk | None, number: float) -> Any:
        """What was seen after so many steps of the attack before."""
        if walk is None:
            return gr.skip()
        until = _whole(number, 0, STEPS, "step")
        return courses_of([each.until(until) for each in walk.courses], self.scene.classes, walk.eps, walk.steps)

    def _views(self, chosen: Chosen, k: float) -> tuple[Any, ...]:
        shown = courses_of(self._courses(chosen), self.scene.classes, self.scene.eps, 0)
        still = gr.update(value=0, interactive=False)
        return chosen, image_of(chosen.image, chosen.told), self.planes(chosen, k), shown, "", "", None, still

    def _courses(self, chosen: Chosen) -> list[Course]:
        courses = []
        for network in self.scene.networks:
            clean = exact_logits(network.model, chosen.image[None])[0]
            label = int(clean.argmax()) if chosen.label is None else chosen.label
            courses.append(Course(network.name, chosen.image, label, clean))
        return courses


def _summary(courses: Sequence[Course], classes: Sequence[str], ended: str) -> str:
    told = ". ".join(f"{course.name}: {verdict(course, classes)}" for course in courses)
    return Markup('<p role="status">{}{}.</p>').format(ended, told)


def _there(chosen: Chosen | None) -> Chosen:
    if chosen is None:  # the page was left open over a new start, which knows nothing of it
        raise gr.Error("no image is chosen any more: reload the page", print_exception=False)
    return chosen


def _within(value: Any, low: float, high: float, name: str) -> float:
    if not isinstance(value, int | float) or not low <= value <= high:
        raise gr.Error(f"{name}: must be from {low:g} to {high:g}", print_exception=False)
    return float(value)


def _whole(value: Any, low: int, high: int, name: str) -> int:
    if (number := _within(value, low, high, name)) != int(number):
        raise gr.Error(f"{name}: must be a whole number, from {low} to {high}", print_exception=False)
    return int(number)
