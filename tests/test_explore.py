"""What the explorer does without a browser: pictures of strangers, the attack step by step, who may ask for what."""

import asyncio
import re
import shutil
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from conftest import small_network
from PIL import Image
from torch import Tensor, nn

from bpfc.attacks import PGD, ImageRng
from bpfc.bitplanes import quantize
from bpfc.cli import explore, subjects
from bpfc.data import DataError, DataSet, Images
from bpfc.errors import UserError
from bpfc.explore import page as page_module
from bpfc.explore import pictures
from bpfc.explore.drawing import Course, courses_of, planes_of
from bpfc.explore.page import Network, Scene, _Handlers, build_page
from bpfc.explore.pictures import read_picture
from bpfc.explore.server import POLICY, Guard, _asks_for, listen
from bpfc.explore.steps import Step, pgd_steps, step_size
from bpfc.files import read_json, without_checksum, write_json
from bpfc.judge import run_attack
from bpfc.models import NETWORKS
from bpfc.training.recipes import RECIPES
from bpfc.training.start import train

DIGITS = tuple(map(str, range(10)))


# Pictures


def png(path: Path, width: int, height: int) -> Path:
    """A PNG that says it has so many pixels, and holds none."""

    def part(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", b"") + part(b"IEND", b""))
    return path


def test_a_picture_of_the_networks_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png", channels=1, size=28)
    assert torch.equal((image * 255).round().to(torch.uint8)[0], torch.from_numpy(pixels))
    swapped = read_picture(tmp_path / "a.png", channels=1, size=28, inverted=True)
    torch.testing.assert_close(swapped, 1 - image)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK"])
def test_the_middle_of_any_kind_of_picture_is_taken(tmp_path: Path, mode: str) -> None:
    wide = Image.new("RGB", (200, 100), "red")
    wide.paste("white", (50, 0, 150, 100))
    wide.convert(mode).save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    path = next(tmp_path.iterdir())
    assert read_picture(path, channels=1, size=28).shape == (1, 28, 28)
    assert float(read_picture(path, channels=3, size=32).min()) > 0.95


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_brought_down_to_eight(tmp_path: Path, channels: int) -> None:
    """All above 255 of 65 535 was white."""
    pixels = np.random.default_rng(0).integers(0, 65_536, (28, 28), np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_picture(tmp_path / "a.png", channels=channels, size=28)
    expected = torch.from_numpy(pixels / 65_535).float().expand(channels, 28, 28)
    torch.testing.assert_close(image, expected, rtol=0, atol=0.51 / 255)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert float(read_picture(tmp_path / "a.png", channels=1, size=28).min()) == 1


@pytest.mark.parametrize("size", [(5000, 5000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match="pixels"):
        read_picture(png(tmp_path / "a.png", *size), channels=1, size=28)


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    for content in (
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"GIF89a" + bytes(9),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a picture that can be read; must be one of PNG"):
            read_picture(path, channels=1, size=28)
    with pytest.raises(DataError, match="not a picture"):
        read_picture(png(path, 20, 20), channels=1, size=28)  # cut off
    monkeypatch.setattr(pictures, "BYTES", 10)
    with pytest.raises(DataError, match="MB; must be at most"):
        read_picture(path, channels=1, size=28)


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


# The verb


@pytest.fixture(scope="module")
def demo(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What bpfc demo leaves, of trainings that are hardly any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bpfc.data.load", lambda *_: digits)
        patch.setitem(NETWORKS, "m-lenet", lambda *_: small_network())
        folder = tmp_path_factory.mktemp("explore") / "demo"
        quick = {"epochs": 1, "limit": 100, "validation": 20, "validation_attacked": 2, "ifgsm_steps": 1}
        for name in ("normal", "bpfc"):
            recipe = replace(RECIPES[f"mnist-5k-{name}"][1], **quick)  # type: ignore[arg-type]
            train(recipe, folder / name, device="cpu", precision="fp32")
        yield folder


def test_the_demos_networks_are_shown_bpfc_first(demo: Path) -> None:
    scene = explore.scene((demo,))
    assert [network.name for network in scene.networks] == ["BPFC", "normal"]
    assert (scene.data, scene.eps, scene.k, scene.classes) == ("mnist-5k", 0.3, 7, list(DIGITS))


@pytest.mark.parametrize("levels", [1, 2, 8])
def test_the_page_begins_with_the_recipe_s_radius_however_small(demo: Path, tmp_path: Path, levels: int) -> None:
    """1/255 was rounded to 0, of which pictures are NaN, and an attack was refused."""
    small = Path(shutil.copytree(demo / "normal", tmp_path / "small"))
    recipe = without_checksum(read_json(small / "recipe.json"))
    write_json(small / "recipe.json", recipe | {"eps": levels / 255})
    scene = explore.scene((small,))
    assert scene.eps == levels / 255
    blocks = build_page(scene).blocks.values()
    (slider,) = [each for each in blocks if isinstance(each, gr.Slider) and str(each.label).startswith("ε")]
    assert slider.value == levels / 255
    nearest = round(levels / 255 / slider.step) * slider.step
    assert slider.minimum <= nearest == pytest.approx(levels / 255, rel=0.03)
    handlers = _Handlers(scene)
    chosen = handlers.test_image(0, 6)[0]
    for eps in (scene.eps, slider.minimum, slider.maximum):
        assert "Step 2 of 2" in list(handlers.attack(chosen, slider.preprocess(eps), 2))[-1][0]


def test_runs_of_one_name_are_told_apart(demo: Path, tmp_path: Path) -> None:
    again = shutil.copytree(demo / "normal", tmp_path / "again")
    scene = explore.scene((demo / "normal", Path(again)))
    assert [network.name for network in scene.networks] == ["normal, normal", "normal, again"]


def test_runs_of_several_data_sets_are_told_with_theirs(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own, which were in another order, and before a network is read."""
    other = Path(shutil.copytree(demo / "normal", tmp_path / "other"))
    recipe = without_checksum(read_json(other / "recipe.json"))
    write_json(other / "recipe.json", recipe | {"data": "fashion-mnist"})
    monkeypatch.setattr("bpfc.cli.subjects.from_run", lambda *_: pytest.fail("a network was read"))
    with pytest.raises(ValueError, match="normal is of mnist-5k, .*other is of fashion-mnist; must be of one data set"):
        explore.scene((demo / "normal", other))


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ((), "0 runs: must be from 1 to 4"),
        (("a",) * 5, "5 runs: must be from 1 to 4"),
        (("demo",), "demo: no such folder; bpfc demo makes it"),
        (("nothing",), "nothing"),
    ],
)
def test_runs_that_are_not_there_are_named(
    runs: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, UserError), match=told):
        explore.scene(tuple(map(Path, runs)))


def test_a_folder_without_a_run_is_named_before_gradio_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bpfc.explore.page", None)  # which would be told as missing
    with pytest.raises(UserError, match="holds no run"):
        explore.main(explore.Explore((tmp_path,), port=0))


def test_an_address_that_is_taken_is_named_before_any_network_is_read(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "scene", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--host 127.0.0.1 --port {port}: cannot be listened on"):
            explore.main(explore.Explore((demo,), port=port))
    for host, port in (("127.0.0.1", 70_000), ("192.0.2.1", 0), ("no such host", 0)):
        with pytest.raises(ValueError, match="cannot be listened on"):
            listen(host, port)


def test_a_page_for_others_has_a_password(demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    given: list[Any] = []
    monkeypatch.setattr("bpfc.explore.server.application", lambda *words: given.append(words[1:]))
    monkeypatch.setattr("bpfc.explore.server.serve", lambda *_: None)
    options = explore.Explore((demo,), port=0)
    explore.main(options)
    assert given[-1] == (None, ("127.0.0.1", "::1", "localhost"))
    explore.main(replace(options, host="0.0.0.0"))
    password, hosts = given[-1]
    assert len(password) >= 16
    assert hosts is None
    assert f"user bpfc, password {password}" in capsys.readouterr().out
    monkeypatch.setenv("BPFC_EXPLORE_PASSWORD", "short")
    with pytest.raises(ValueError, match="has 5 characters; must have at least 12"):
        explore.main(replace(options, host="0.0.0.0"))
    monkeypatch.setenv("BPFC_EXPLORE_PASSWORD", "a long pass phrase")
    explore.main(replace(options, host="0.0.0.0"))
    assert given[-1][0] == "a long pass phrase"
    explore.main(replace(options, host="0.0.0.0", public=True))
    assert given[-1] == (None, None)


def test_networks_of_one_s_own_data_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose test images need not be of every class that the networks know."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(NETWORKS, "small", lambda *_: small_network())
    rng = np.random.default_rng(0)
    for part, labels in (("train", np.arange(40) % 10), ("val", np.arange(8) % 3)):
        Path("mine").mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (len(labels), 28, 28, 1), np.uint8)
        np.savez(f"mine/{part}.npz", images=pixels, labels=labels.astype(np.int64))
    recipe = replace(
        RECIPES["mnist-5k-normal"][1], data="mine", network="small", epochs=1, validation=4, validation_attacked=4
    )
    train(recipe, Path("run"), device="cpu", precision="fp32")
    scene = explore.scene((Path("run"),))
    assert (scene.data, tuple(scene.classes)) == ("mine", DIGITS)


def test_runs_of_one_path_that_read_it_otherwise_are_refused(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were shown, and every picture failed in one of the networks."""
    whole = subjects.from_run

    def other(folder: Path, *rest: Any) -> Any:
        found = whole(folder, *rest)
        images = Images(found.images.pixels[:, :, :20, :20], found.images.labels)
        return replace(found, images=images) if folder.name == "normal" else found

    monkeypatch.setattr(subjects, "from_run", other)
    with pytest.raises(ValueError, match=r"normal: its test images \(.* 20 × 20\) are not those of .*bpfc \(.* 28\)"):
        explore.scene((demo,))
    monkeypatch.setattr(subjects, "from_run", lambda folder, *_: replace(whole(folder), data_sha256=folder.name))
    with pytest.raises(ValueError, match="are not those of"):
        explore.scene((demo,))
