"""The page as a person meets it: in Chromium, on a desk and on a phone, in light and dark, with and without a mouse."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from looking import CUT_OFF, FAINT, hard_to_use
from playwright.sync_api import Browser, Page, Request, expect
from test_page_figures import FIGURES

from bpfc.report.page.audits import drawings
from bpfc.report.page.render import AT_FIRST

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "fashion-mnist.html"


def opened(
    browser: Browser, width: int = 1280, scheme: str = "light", javascript: bool = True, file: Path = PAGE
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
        if not asked.url.startswith(("data:", file.as_uri())):
            wrong.append(asked.url)

    page.on("request", leaves)
    page.goto(file.as_uri())
    return page, wrong


@pytest.fixture(autouse=True)
def _pages_are_closed(browser: Browser) -> Iterator[None]:
    """Of a page this large each takes a browser's time while it is open."""
    yield
    for context in browser.contexts:
        context.close()


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
    page.set_content('<html lang="en"><title>t</title><main><h1>h</h1><input type="range"></main>')
    assert [told.split(":")[0] for told in hard_to_use(page)] == ["label"]


def test_no_word_of_an_audit_s_figures_is_cut_off(browser: Browser) -> None:
    page, _ = opened(browser, 360)
    along = [n / 6 - 1 for n in range(13)]  # as many as audits have
    surface = {"gradient": along, "random": along, "loss": [[t - u * u for u in along] for t in along], "images": 8}
    page.set_content("".join(item.drawn for item in drawings(FIGURES | {"surface": surface})))
    assert page.locator("svg").count() == 5
    page.add_style_tag(content="svg text { font: 12px sans-serif }")
    assert page.evaluate(CUT_OFF) == []
    page.evaluate("document.querySelector('svg text').textContent = 'far too many words for a figure '.repeat(3)")
    assert len(page.evaluate(CUT_OFF)) == 1


def test_filters_show_what_is_asked_for(browser: Browser) -> None:
    page, wrong = opened(browser)
    cards, count = page.locator(".card:visible"), page.locator("#count")
    every = page.locator(".card").count()
    assert cards.count() == AT_FIRST < every  # the rest is behind a word
    assert count.inner_text() == f"{every} of {every} images"
    page.get_by_label("Outcome").select_option("broken")
    page.get_by_label("Network").select_option("BPFC")
    shown = cards.count()
    assert 0 < shown < every
    assert not page.locator("#rest summary").is_visible()
    spots = cards.evaluate_all("all => all.map(one => [one.offsetLeft, one.offsetTop])")
    columns = len({left for left, _ in spots})
    assert len({top for _, top in spots}) == -(-shown // columns)  # there was a hole before what came from behind
    assert count.inner_text() == f"{shown} of {every} images"
    assert set(cards.evaluate_all("all => all.map(one => one.dataset.outcome + one.dataset.run)")) == {"brokenBPFC"}
    page.get_by_label("Broken by").select_option("fgsm")
    assert set(cards.evaluate_all("all => all.map(one => one.dataset.attack)")) == {"fgsm"}
    small = page.locator(".card:visible img").first.bounding_box()
    page.get_by_label("Pictures").select_option("large")
    large = page.locator(".card:visible img").first.bounding_box()
    assert small
    assert large
    assert large["height"] > 2 * small["height"]
    page.get_by_label("Outcome").select_option("misclassified")
    assert cards.count() == 0
    assert count.inner_text() == f"None of the {every} images is all of this; set one of these back to “all”."
    for name in ("Outcome", "Network", "Broken by"):
        page.get_by_label(name).select_option("")
    assert cards.count() == every
    assert page.locator("#rest .card").count() == every - AT_FIRST
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
    """What axe-core does not ask for, beside what it does: one h1, no heading level left out, figures with names."""
    page, _ = opened(browser)
    assert hard_to_use(page) == []
    levels = [int(tag[1]) for tag in page.eval_on_selector_all("h1,h2,h3,h4", "all => all.map(one => one.tagName)")]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    drawn = page.locator("svg[role=img]")
    assert drawn.count() > 10
    title = "document.getElementById(one.getAttribute('aria-labelledby').split(' ')[0]).textContent"
    named = f"all => all.every(one => {title})"
    assert drawn.evaluate_all(named)


def test_without_javascript_every_image_is_there_and_no_filter(browser: Browser) -> None:
    page, wrong = opened(browser, javascript=False)
    source = PAGE.read_text()
    assert page.locator(".card:visible").count() == AT_FIRST
    rest = page.get_by_text("more", exact=False).and_(page.locator("#rest summary"))
    rest.press("Enter")  # a click once missed it, while the page above was still being laid out
    expect(page.locator(".card:visible")).to_have_count(len(re.findall(r'class="card ', source)))  # it waits
    assert not page.locator("#filters").is_visible()
    assert page.locator("table").count() > 3
    assert wrong == []


def test_what_is_closed_is_printed(browser: Browser) -> None:
    page, _ = opened(browser, javascript=False)
    seen = "all => [...new Set(all.map(one => one.checkVisibility()))]"
    closed = page.locator("#provenance details pre, #training dd, #rest .card")
    assert closed.evaluate_all(seen) == [False]
    page.emulate_media(media="print")
    assert closed.evaluate_all(seen) == [True]


def test_a_browser_that_prints_only_what_is_open_is_given_that(browser: Browser) -> None:
    page, _ = opened(browser)
    closed = page.locator("details:not([open])")
    count = closed.count()
    assert count > 5
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert closed.count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert closed.count() == count


def test_figures_are_about_as_wide_as_each_other_and_their_words_large_enough(browser: Browser) -> None:
    """One was twice as large as the next, and 9.5 pixels a phone's smallest."""
    size = """() => [...document.querySelectorAll('svg[role=img] text')].map(one => one.getBoundingClientRect().width &&
        parseFloat(getComputedStyle(one).fontSize) * one.ownerSVGElement.getBoundingClientRect().width / 360)
        .filter(size => size)"""
    for width, least in ((360, 10.4), (1280, 11)):
        sizes = opened(browser, width)[0].evaluate(size)
        assert len(sizes) > 100
        assert least < min(sizes) <= max(sizes) < 15
