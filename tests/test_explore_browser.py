"""The explorer as a person meets it, in Chromium: nothing but the page itself is ever asked, by it or by its server."""

import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn
from conftest import small_network
from looking import CUT_OFF, FAINT, hard_to_use
from PIL import Image
from playwright.sync_api import Browser, Page, Request
from test_explore import DIGITS
from test_explore_pictures import png
from torch import nn

from bpfc.data import DataSet
from bpfc.explore import page as page_module
from bpfc.explore.page import AT_ONCE, WAITING, Network, Scene, build_page
from bpfc.explore.server import LOOPBACK, application, listen, serve
from bpfc.explore.steps import Step

WRONG = ("warning", "error")
CANCELS = "Method not implemented."
"""What Gradio's client tells the console whenever it cancels anything."""


@pytest.fixture(scope="module")
def asked_elsewhere() -> Iterator[list[str]]:
    """Every address outside this machine that the server, which runs in this process, has asked for."""
    found: list[str] = []
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in LOOPBACK:
            found.append(str(address))
        connect(self, address)

    def looking_up(host: Any, *words: Any, **more: Any) -> Any:
        if host not in (*LOOPBACK, None):
            found.append(str(host))
        return lookup(host, *words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connecting)
        patch.setattr(socket, "getaddrinfo", looking_up)
        yield found


@contextmanager
def served(scene: Scene, password: str | None) -> Iterator[str]:
    """The page at an address, as `bpfc explore` serves it."""
    started: list[uvicorn.Server] = []

    class Kept(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            started.append(self)

    with pytest.MonkeyPatch.context() as patch, listen("127.0.0.1", 0) as listening:
        patch.setattr(uvicorn, "Server", Kept)
        app = application(build_page(scene), password, LOOPBACK)
        thread = threading.Thread(target=serve, args=(app, listening), daemon=True)
        listening.listen()
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        started[0].should_exit = started[0].force_exit = True  # waits for no browser that holds a connection
        thread.join(10)


@pytest.fixture(scope="module")
def scene(trained: nn.Module, digits: DataSet) -> Scene:
    networks = [Network("BPFC", trained), Network("normal", small_network().eval())]
    return Scene(networks, digits.test, "mnist-5k", DIGITS, eps=0.2, k=6)


@pytest.fixture(scope="module")
def address(scene: Scene, asked_elsewhere: list[str]) -> Iterator[str]:
    with served(scene, None) as where:
        yield where


@pytest.fixture(autouse=True)
def _nothing_is_asked_elsewhere(asked_elsewhere: list[str]) -> Iterator[None]:
    yield
    assert asked_elsewhere == []


def opened(browser: Browser, address: str, width: int, scheme: Literal["light", "dark"]) -> tuple[Page, list[str]]:
    """The page, and what went wrong on it: warnings and errors on the console, requests that leave it."""
    page, wrong = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme), []
    page.set_default_timeout(60_000)  # of a machine with other work to do
    page.on(
        "console",
        lambda message: wrong.append(message.text) if message.type in WRONG and message.text != CANCELS else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def leaves(asked: Request) -> None:
        if not asked.url.startswith(("data:", "blob:", address)):
            wrong.append(asked.url)

    page.on("request", leaves)
    page.goto(address)
    return page, wrong


@pytest.fixture(scope="module")
def visited(browser: Browser, address: str) -> tuple[Page, list[str]]:
    """Opened once: that takes a browser seconds, and is what `bpfc explore` is for."""
    page, wrong = opened(browser, address, 1280, "light")
    page.get_by_text("Not attacked").first.wait_for()
    return page, wrong


@pytest.fixture
def page(visited: tuple[Page, list[str]]) -> Iterator[Page]:
    """With its first image, not attacked; nothing may go wrong on it."""
    page, wrong = visited
    for index in (2, 0):
        page.get_by_label("Test image").fill(str(index))
        page.get_by_text(f"test image {index},").wait_for()
    yield page
    assert wrong == []


def attack(page: Page, steps: int) -> str:
    """Runs an attack to its end; what is said of it then."""
    page.get_by_label("number input for Steps of PGD").fill(str(steps))
    page.get_by_role("button", name="Attack").click()
    page.get_by_text(f"Step {steps} of {steps}").first.wait_for()
    return page.locator(".told [role=status]").inner_text()


def check_that_all_can_use(page: Page, width: int, scheme: str) -> None:
    """An attack runs to its end, in words too, on a page that fits and reads."""
    told = attack(page, 6)
    assert re.fullmatch(r"BPFC: taken for \d; .*\. normal: taken for \d; .*\.", told)
    assert page.locator(".network").count() == 2
    assert page.locator(".margins .line").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(FAINT) == []
    assert hard_to_use(page) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 60")
    assert dark == (scheme == "dark")
    page.keyboard.press("Escape")


def test_an_attack_runs_to_its_end_on_a_page_that_all_can_read(page: Page) -> None:
    check_that_all_can_use(page, 1280, "light")


def test_sliders_move_by_keys_and_the_page_follows(page: Page) -> None:
    assert page.locator(".planes .dropped").count() == 6
    page.get_by_label("range slider for k").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelectorAll('.planes .dropped').length === 4")
    page.get_by_label("range slider for ε").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.get_by_label("number input for ε").input_value() == "0.205"
    page.get_by_label("number input for ε").fill("0.0039216")
    page.get_by_label("number input for ε").blur()
    assert page.get_by_label("number input for ε").input_value() == "0.0039216"
    assert attack(page, 3)


def test_one_goes_back_to_an_earlier_step_by_keys(page: Page) -> None:
    name = "range slider for Look at step"
    assert page.get_by_label(name).is_disabled()
    attack(page, 5)
    page.get_by_label(name).focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.get_by_text("Step 3 of 5").first.wait_for()
    assert page.locator(".told [role=status]").count() == 1  # what became of it stays
    page.get_by_role("button", name="Next image").click()
    page.get_by_text("Not attacked").first.wait_for()
    assert page.get_by_label(name).is_disabled()


def test_text_and_controls_begin_at_one_line_and_nothing_jumps(page: Page) -> None:
    left = "all => [...new Set(all.map(one => Math.round(one.getBoundingClientRect().left)))]"
    assert len(page.locator("h1, .told, .networks, button:text-is('Attack')").evaluate_all(left)) == 1
    place = """one => { const box = one.getBoundingClientRect();
        return [box.left, box.top + scrollY, box.width, box.height].map(Math.round); }"""
    before = page.locator(".network").first.evaluate(place)
    attack(page, 3)
    assert page.locator(".network").first.evaluate(place) == before


def test_keys_reach_every_control_and_start_an_attack(page: Page) -> None:
    name = "one => one.getAttribute('aria-label') || one.labels?.[0]?.innerText || one.innerText"
    page.get_by_label("number input for Steps of PGD").fill("3")
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")  # from the beginning
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if not focused.count():
            continue
        reached.append(str(focused.evaluate(name)).strip())
        outlined = "one => { const s = getComputedStyle(one); return s.outlineStyle + s.boxShadow; }"
        assert focused.evaluate(outlined) != "nonenone", reached[-1]
        if reached[-1] == "Attack":
            page.keyboard.press("Enter")
            page.get_by_text("Step 3 of 3").first.wait_for()
    every = " | ".join(reached)
    for control in ("Test image", "Next of class", "Next image", "k, bit planes", "ε, largest", "Attack", "Stop"):
        assert control in every


def test_another_image_takes_the_place_of_an_attack(page: Page, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "FRAME", 0.4)
    page.get_by_label("number input for Steps of PGD").fill("100")
    page.get_by_role("button", name="Attack").click()
    page.get_by_text("of 100").first.wait_for()
    page.get_by_role("button", name="Next image").click()
    page.get_by_text(f"test image 1, {int(scene.images.labels[1])}").wait_for()
    page.get_by_text("Not attacked").first.wait_for()
    page.wait_for_timeout(600)
    assert page.get_by_text("of 100").count() == 0


def test_stop_ends_an_attack(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "FRAME", 0.4)  # ends by the clock, long before its last step
    page.get_by_label("number input for Steps of PGD").fill("100")
    page.get_by_role("button", name="Attack").click()
    page.get_by_text("of 100").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_timeout(300)
    before = page.locator(".network p").first.inner_text()
    page.wait_for_timeout(600)
    assert page.locator(".network p").first.inner_text() == before
    assert "Step 100" not in before


def test_a_picture_of_ones_own_and_hostile_ones(page: Page, visited: tuple[Page, list[str]], tmp_path: Path) -> None:
    Image.new("L", (60, 90), 180).save(tmp_path / "mine.png")
    (tmp_path / "page.png").write_text("<script>alert(1)</script>")
    (tmp_path / "large.png").write_bytes(bytes(9_000_000))
    upload = page.locator("input[type=file]")

    def hand_in(path: Path) -> None:
        if (clear := page.get_by_role("button", name="Clear")).count():
            clear.first.click()
        upload.set_input_files(path)

    hand_in(tmp_path / "mine.png")
    page.get_by_text("your picture, at 28 × 28 pixels").wait_for()
    assert attack(page, 4)
    hand_in(png(tmp_path / "bomb.png", 60_000, 60_000))
    page.get_by_role("alert").get_by_text("Not taken: the picture has too many pixels").wait_for()
    hand_in(tmp_path / "page.png")
    page.get_by_role("alert").get_by_text("Not taken: not a picture that can be read").wait_for()
    assert visited[1] == []
    page.get_by_role("button", name="Clear").first.click()
    page.locator("[role=alert]").get_by_text("Not taken").wait_for(state="detached")  # else it stays beside the next
    with page.expect_response(re.compile("upload_progress")):  # of what was refused: 404, as the console tells
        hand_in(tmp_path / "large.png")
    page.get_by_text(re.compile("too large|exceeds|maximum", re.IGNORECASE)).first.wait_for()
    assert page.get_by_text("your picture, at 28 × 28 pixels").count() == 1  # what was there stays
    page.get_by_role("button", name="Next image").click()
    page.get_by_text("test image 1,").wait_for()
    page.wait_for_timeout(200)
    visited[1].clear()  # the console tells of the answers 413 and 404


def send(address: str, path: str, content: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(
        address + path, data, {"content-type": "application/json", "user-agent": "test", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def place(address: str, name: str) -> int:
    """Of a handler, by its name, as a script finds it."""
    listed = json.loads(send(address, "config")[1])["dependencies"]
    return next(each["id"] for each in listed if each["api_name"] == name)


def test_an_address_in_place_of_a_picture_is_not_fetched(address: str, asked_elsewhere: list[str]) -> None:
    elsewhere = {"path": "http://192.0.2.1/a.png", "meta": {"_type": "gradio.FileData"}}
    joined = {"data": [elsewhere, False, 6], "fn_index": place(address, "own_picture"), "session_hash": "fetcher"}
    assert send(address, "gradio_api/run/predict", joined)[0] == 500
    assert send(address, "gradio_api/queue/join", joined)[0] == 200
    told = send(address, "gradio_api/queue/data?session_hash=fetcher")[1].decode()
    assert '"success":false' in told.replace(" ", "")
    assert asked_elsewhere == []


def test_files_of_this_machine_are_not_shown(address: str) -> None:
    for path in (Path(__file__), Path("/etc/hostname")):
        assert send(address, f"gradio_api/file={path}")[0] == 403


def test_other_hosts_are_refused(address: str) -> None:
    assert send(address, "", headers={"host": "elsewhere.example"})[0] == 421


class Crowd:
    """Visitors who ask as the page itself does, and whose attacks last until `over` is set."""

    def __init__(self, address: str) -> None:
        self.address, self.joined = address, 0
        self.over, self.ended = threading.Event(), threading.Semaphore(0)
        self._image, self._attack = place(address, "test_image"), place(address, "attack")

    def lasts(self, *_: object) -> Iterator[Step]:
        self.over.wait(60)
        self.ended.release()
        yield from ()

    def look(self, visitor: str) -> int:
        """What does not queue."""
        asked = {"data": [0, 6], "fn_index": self._image, "session_hash": visitor}
        return send(self.address, "gradio_api/run/predict", asked)[0]

    def attack(self, visitor: str) -> int:
        joined = {"data": [None, 0.1, 100], "fn_index": self._attack, "session_hash": visitor}
        status = send(self.address, "gradio_api/queue/join", joined)[0]
        self.joined += status == 200
        return status


@pytest.fixture
def crowd(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    """Whose attacks have all ended before the next test begins one."""
    crowd = Crowd(address)
    monkeypatch.setattr(page_module, "pgd_steps", crowd.lasts)
    yield crowd
    crowd.over.set()
    for _ in range(crowd.joined):
        assert crowd.ended.acquire(timeout=60)


def test_a_full_queue_turns_attacks_away_and_nobody_else(page: Page, crowd: Crowd, scene: Scene) -> None:
    visitors = [f"crowd{n}" for n in range(AT_ONCE + WAITING + 6)]
    assert [crowd.look(visitor) for visitor in visitors] == [200] * len(visitors)
    states = [crowd.attack(visitor) for visitor in visitors]
    assert states[: AT_ONCE + 1] == [200] * (AT_ONCE + 1)
    assert 503 in states
    assert crowd.look("somebody else") == 200
    page.get_by_role("button", name="Next image").click()
    page.get_by_text(f"test image 1, {int(scene.images.labels[1])}").wait_for()
    page.get_by_label("number input for k").fill("2")
    page.wait_for_function("document.querySelectorAll('.planes .dropped').length === 2")


def test_who_waits_sees_the_place_in_the_queue(page: Page, crowd: Crowd) -> None:
    """The page did not change until the attacks of others were over."""
    for number in range(AT_ONCE + 1):
        assert crowd.look(f"before{number}") == 200
        assert crowd.attack(f"before{number}") == 200
    page.get_by_role("button", name="Attack").click()
    told = page.locator(".told").get_by_text(re.compile(r"queue: (\d)/\1"))  # the last of them
    told.wait_for()
    assert "Waiting" in told.evaluate("one => getComputedStyle(one, '::before').content")
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(FAINT) == []
    page.get_by_role("button", name="Stop").click()
    told.wait_for(state="hidden")


def test_without_the_password_there_is_nothing_and_with_it_the_page_on_a_phone(
    browser: Browser, scene: Scene, asked_elsewhere: list[str]
) -> None:
    with served(scene, "a long pass phrase") as guarded:
        assert send(guarded, "config")[0] == 401
        assert send(guarded, "gradio_api/queue/join", {"data": [], "fn_index": 0, "session_hash": "x"})[0] == 401
        page, wrong = opened(browser, guarded, 360, "dark")
        for tried in ("wrong", "a long pass phrase"):
            page.get_by_label("username").fill("bpfc")
            page.get_by_label("password").fill(tried)
            page.get_by_role("button", name="Login").click()
            if tried == "wrong":
                page.get_by_text("Incorrect").wait_for()
        page.get_by_text("Not attacked").first.wait_for()
        check_that_all_can_use(page, 360, "dark")
        assert len(wrong) == 1  # the console tells of the answer 400
