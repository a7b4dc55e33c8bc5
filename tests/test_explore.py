"""What the explorer does without a browser: the attack step by step, its controls, who may ask for what."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bpfc.attacks import PGD, ImageRng
from bpfc.bitplanes import quantize
from bpfc.data import DataSet, Images
from bpfc.explore import page as page_module
from bpfc.explore.drawing import Course, courses_of, planes_of
from bpfc.explore.page import Network, Scene, _Handlers, build_page
from bpfc.explore.server import POLICY, Guard, _asks_for
from bpfc.explore.steps import Step, pgd_steps, step_size
from bpfc.judge import run_attack

DIGITS = tuple(map(str, range(10)))


# The attack


def test_the_steps_are_those_of_pgd_to_the_bit(trained: nn.Module, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits
    for index in (0, 3, 11):
        image, label = images[index], int(labels[index])
        steps = list(pgd_steps(trained, image, label, eps=0.15, steps=12, index=index))
        assert [step.number for step in steps] == list(range(13))
        attack = PGD(0.15, step_size(0.15, 12), 12)
        last = attack(trained, images[[index]], labels[[index]], ImageRng(0, [index]))[0]
        assert torch.equal(steps[-1].image, last)
        judged = run_attack(trained, images[[index]], labels[[index]], attack, ImageRng(0, [index]))
        assert steps[-1].broken == (int(judged.step[0]) if judged.broken[0] else None)
        assert torch.allclose(steps[-1].logits, trained(last[None])[0])


def test_margins_and_words_follow_the_logits() -> None:
    course = Course("BPFC <b>", torch.zeros(1, 28, 28), 1, torch.tensor([0.0, 2.0, 1.0]))
    shown = courses_of([course], ("a", "b", "c"), 0.1, 5)
    assert "Not attacked: taken for b" in shown
    assert "BPFC &lt;b&gt;" in shown
    course.steps += [Step(0, course.image, torch.tensor([0.0, 2.0, 1.0]), None)]
    course.steps += [Step(1, course.image, torch.tensor([0.0, 1.0, 4.0]), 1)]
    assert course.margins == [1.0, -3.0]
    assert "Step 1 of 5: taken for c; broken by step 1" in courses_of([course], ("a", "b", "c"), 0.1, 5)
    wrong = replace(course, label=0, steps=[])
    assert "wrong before the attack" in courses_of([wrong], ("a", "b", "c"), 0.1, 5)


def test_dropped_planes_are_told_from_kept_ones(test_digits: tuple[Tensor, Tensor]) -> None:
    image = test_digits[0][0]
    coarse = quantize(image, 5)
    shown = planes_of(image, coarse, 5, [("BPFC", "7", "1")])
    assert shown.count('class="dropped"') == 5
    assert shown.count('class="kept"') == 3
    assert f"have {len(coarse.unique())} values, those of the image {len(image.unique())}" in shown
    assert "<b>BPFC</b> takes the image for 7, its coarse version for 1." in shown


# The controls


@pytest.fixture
def scene(trained: nn.Module, digits: DataSet) -> Scene:
    return Scene([Network("BPFC", trained)], digits.test, "mnist-5k", DIGITS, eps=0.1, k=6)


def test_an_attack_shows_every_step_and_ends_in_words(scene: Scene) -> None:
    handlers = _Handlers(scene)
    chosen = handlers.test_image(2, 6)[0]
    seen = list(handlers.attack(chosen, 0.2, 7))
    assert [f"Step {number} of 7" in shown for number, (shown, *_) in enumerate(seen)] == [True] * 8
    assert [told for _, told, *_ in seen[:-1]] == [""] * 7
    assert 'role="status">BPFC: taken for' in seen[-1][1]
    assert (seen[-1][3]["maximum"], seen[-1][3]["value"]) == (7, 7)


def test_one_can_go_back_to_every_step_that_was_seen(scene: Scene) -> None:
    handlers = _Handlers(scene)
    chosen = handlers.test_image(2, 6)[0]
    seen = list(handlers.attack(chosen, 0.2, 7))
    walk = seen[0][2]
    kinds = [re.sub(r">[-.\d]+</text>|(?:x|width)=\"[-.\d]+\"", "", shown) for shown, *_ in seen]  # but for the scale
    for number in (0, 3, 7):
        again = handlers.step(walk, number)
        assert f"Step {number} of 7" in again
        assert re.sub(r">[-.\d]+</text>|(?:x|width)=\"[-.\d]+\"", "", again) == kinds[number]
    assert handlers.step(None, 3) == gr.skip()
    stopped = handlers.attack(chosen, 0.2, 7)
    walk = next(stopped)[2]
    next(stopped)
    assert "Step 1 of 7" in handlers.step(walk, 5)  # as far as it came


def test_bars_of_all_networks_and_steps_have_one_scale_with_ticks() -> None:
    """Each network and step had its own: a logit of 5 looked like one of 20."""
    image = torch.zeros(1, 28, 28)
    small, large = (Course(name, image, 0, torch.tensor([value, 0.0])) for name, value in (("a", 5.0), ("b", 21.0)))
    shown = str(courses_of([small, large], ("x", "y"), 0.1, 5))
    wide = [float(each) for each in re.findall(r'class="logit label" .*? width="([\d.]+)"', shown)]
    assert wide[0] / wide[1] == pytest.approx(5 / 21, abs=0.01)
    assert shown.count(">30</text>") == shown.count(">-15</text>") == 2
    assert shown.count("<img") == 2
    assert "no perturbation yet" in shown  # the room of three pictures, before an attack too
    assert 'class="margins"' in shown


def test_a_slow_attack_ends_in_time_and_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "SECONDS", 0.0)
    handlers = _Handlers(scene)
    seen = list(handlers.attack(handlers.test_image(2, 6)[0], 0.2, 100))
    assert len(seen) == 1
    assert "Ended after 0 steps" in seen[0][1]


def test_next_image_is_of_the_class_and_comes_round(scene: Scene) -> None:
    handlers, labels = _Handlers(scene), scene.images.labels.tolist()
    place, met = 0, []
    for _ in range(labels.count(4)):
        place, chosen = handlers.next_image(place, "4", 6)[:2]
        assert chosen.label == 4
        met.append(place)
    assert len(set(met)) == labels.count(4)
    assert handlers.next_image(len(labels) - 1, "any class", 6)[0] == 0


def test_networks_of_other_channels_take_no_picture(scene: Scene, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    pixels = torch.zeros(3, 4, 8, 8, dtype=torch.uint8)
    network = Network("a", nn.Sequential(nn.Flatten(), nn.Linear(256, 10)).eval())
    handlers = _Handlers(replace(scene, networks=[network], images=Images(pixels, torch.arange(3))))
    assert len(list(handlers.attack(handlers.test_image(0, 6)[0], 0.1, 2))) == 3
    told = handlers.own_picture(str(tmp_path / "a.png"), False, 6)[5]
    assert "Not taken: the networks take images of 4 channels, and a picture is grey or RGB." in told


def test_a_page_of_an_earlier_start_is_to_be_reloaded(scene: Scene) -> None:
    handlers = _Handlers(scene)
    with pytest.raises(gr.Error, match="reload the page"):
        next(handlers.attack(None, 0.1, 3))
    with pytest.raises(gr.Error, match="reload the page"):
        handlers.planes(None, 6)


def test_a_picture_of_ones_own_is_attacked_away_from_each_answer(scene: Scene, tmp_path: Path) -> None:
    Image.new("L", (50, 80), 200).save(tmp_path / "a.png")
    handlers = _Handlers(scene)
    chosen, _, _, shown, _, refused, *_ = handlers.own_picture(str(tmp_path / "a.png"), False, 6)
    assert chosen.label is None
    assert "wrong before" not in shown
    assert refused == ""
    *kept, refused, walked, back = handlers.own_picture(str(Path(__file__)), False, 6)
    assert [*kept, walked, back] == [gr.skip()] * 7
    assert "Not taken: not a picture that can be read" in refused


@pytest.mark.parametrize(
    "values", [(0, 20), (2, 20), (0.1, 0), (0.1, 10**9), (float("nan"), 5), ("0.1", 5), (0.1, None)]
)
def test_values_beyond_the_sliders_are_refused(scene: Scene, values: tuple[Any, Any]) -> None:
    handlers = _Handlers(scene)
    chosen = handlers.test_image(0, 6)[0]
    with pytest.raises(gr.Error, match="must be from"):
        next(handlers.attack(chosen, *values))
    for index in (-1, 500, float("inf")):
        with pytest.raises(gr.Error, match="must be from 0 to 499"):
            handlers.test_image(index, 6)
    with pytest.raises(gr.Error, match="k: must be from 1 to 7"):
        handlers.planes(chosen, 8)
    for asks in (
        lambda: handlers.test_image(2.5, 6),
        lambda: handlers.planes(chosen, 2.5),
        lambda: next(handlers.attack(chosen, 0.1, 2.5)),
    ):  # which was taken for 2
        with pytest.raises(gr.Error, match="must be a whole number"):
            asks()


def test_the_queue_is_bounded(scene: Scene) -> None:
    page = build_page(scene)
    assert page._queue.max_size == page_module.WAITING
    limits = {fn.concurrency_id: fn.concurrency_limit for fn in page.fns.values()}
    assert limits["attack"] == page_module.AT_ONCE
    # Whatever queues counts, and a full queue turns it away: attacks alone do.
    assert {fn.api_name for fn in page.fns.values() if fn.fn and fn.queue} == {"attack"}


# Who may ask


def asked(guard: Guard, headers: dict[str, str]) -> tuple[int, dict[bytes, bytes]]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(guard({"type": "http", "headers": raw}, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


async def _fine(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_the_guard_lets_pass_what_it_should() -> None:
    guard = Guard(_fine, ("127.0.0.1", "::1", "localhost"))
    for host in ("127.0.0.1:7860", "localhost", "[::1]:7860"):
        status, headers = asked(guard, {"host": host, "content-length": "5000000"})
        assert status == 200
        assert headers[b"content-security-policy"] == POLICY.encode()
    assert asked(guard, {"host": "elsewhere.example"})[0] == 421
    assert asked(guard, {})[0] == 421
    assert asked(guard, {"host": "localhost", "content-length": "9000000"})[0] == 413
    assert asked(guard, {"host": "localhost", "content-length": "-1"})[0] == 413
    assert asked(guard, {"host": "localhost", "transfer-encoding": "chunked"})[0] == 413
    assert asked(Guard(_fine, None), {"host": "elsewhere.example"})[0] == 200


def test_the_password_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(seconds: float) -> None:
        assert seconds >= 1

    monkeypatch.setattr("bpfc.explore.server.asyncio.sleep", at_once)
    knows = _asks_for("long enough")
    tried = [("bpfc", "long enough"), ("bpfc", "wrong"), ("other", "long enough"), ("bpfc", "ü")]
    assert [asyncio.run(knows(*words)) for words in tried] == [True, False, False, False]
