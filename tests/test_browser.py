"""The page as a person meets it: in Chromium, on a desk and on a phone, in light and dark, with and without a mouse."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "fashion-mnist.html"
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium", pytrace=False)
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


def opened(
    browser: Browser, width: int = 1280, scheme: str = "light", javascript: bool = True
) -> tuple[Page, list[str]]:
    """The page, and what went wrong on it: words on the console, errors, requests that leave it."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=javascript,
    )
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def leaves(asked: Request) -> None:
        if not asked.url.startswith(("data:", PAGE.as_uri())):
            wrong.append(asked.url)

    page.on("request", leaves)
    page.goto(PAGE.as_uri())
    return page, wrong


CUT_OFF = """() => [...document.querySelectorAll('body *')].filter(one => {
    const box = one.getBoundingClientRect(), hidden = one.closest('thead, [hidden], details:not([open])');
    return !hidden && box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(one => one.tagName + ' ' + one.textContent.slice(0, 40))"""

FAINT = """() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = one => {
        for (; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if (!/, 0\\)|transparent/.test(colour)) return colour;
        }
    };
    return [...document.querySelectorAll('h1, h2, p, a, th, td, small, figcaption, summary, li, label, option, text')]
        .filter(one => one.textContent.trim() && one.getBoundingClientRect().width)
        .filter(one => {
            const style = getComputedStyle(one), svg = one.namespaceURI.endsWith('svg');
            const [a, b] = [light(svg ? style.fill : style.color), light(behind(one))].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05) < 4.5;
        }).map(one => one.tagName + ' ' + one.textContent.slice(0, 40));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_reads_and_asks_for_nothing(browser: Browser, width: int, scheme: str) -> None:
    page, wrong = opened(browser, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(FAINT) == []
    assert wrong == []


def test_what_is_wrong_with_a_page_is_seen(browser: Browser) -> None:
    page, wrong = opened(browser, 360)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"width: 900px; color: #bbb\">faint</p>')")
    assert page.evaluate(CUT_OFF) == ["P faint"]
    assert page.evaluate(FAINT) == ["P faint"]
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"http://localhost:9/x.png\">')")
    page.wait_for_timeout(100)
    assert wrong  # the page's own policy forbids it, and says so


def test_filters_show_what_is_asked_for(browser: Browser) -> None:
    page, wrong = opened(browser)
    cards, count = page.locator(".card:visible"), page.locator("#count")
    every = cards.count()
    assert count.inner_text() == f"{every} of {every} images"
    page.get_by_label("Outcome").select_option("broken")
    page.get_by_label("Network").select_option("BPFC")
    shown = cards.count()
    assert 0 < shown < every
    assert count.inner_text() == f"{shown} of {every} images"
    assert set(cards.evaluate_all("all => all.map(one => one.dataset.outcome + one.dataset.run)")) == {"brokenBPFC"}
    page.get_by_label("Broken by").select_option("fgsm")
    assert set(cards.evaluate_all("all => all.map(one => one.dataset.attack)")) == {"fgsm"}
    for name in ("Outcome", "Network", "Broken by"):
        page.get_by_label(name).select_option("")
    assert cards.count() == every
    assert wrong == []


def test_the_keyboard_reaches_links_and_filters(browser: Browser) -> None:
    page, _ = opened(browser)
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate("[document.activeElement.tagName, document.activeElement.name || '']")
        reached.append(" ".join(focused).strip())
    assert {"A", "SUMMARY", "SELECT run", "SELECT label", "SELECT outcome", "SELECT attack"} <= set(reached)
    outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outlined != "none"


def test_names_and_order_serve_a_screen_reader(browser: Browser) -> None:
    """The rules of axe that matter here: language, one h1, no heading level left out, names for what can be used."""
    page, _ = opened(browser)
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = [int(tag[1]) for tag in page.eval_on_selector_all("h1,h2,h3,h4", "all => all.map(one => one.tagName)")]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    for select in page.locator("select").all():
        assert select.evaluate("one => one.labels.length") == 1
    drawn = page.locator("svg[role=img]")
    assert drawn.count() > 10
    title = "document.getElementById(one.getAttribute('aria-labelledby').split(' ')[0]).textContent"
    named = f"all => all.every(one => {title})"
    assert drawn.evaluate_all(named)


def test_without_javascript_every_image_is_there_and_no_filter(browser: Browser) -> None:
    page, wrong = opened(browser, javascript=False)
    source = PAGE.read_text()
    assert page.locator(".card:visible").count() == len(re.findall(r'class="card ', source))
    assert not page.locator("#filters").is_visible()
    assert page.locator("table").count() > 3
    assert wrong == []
