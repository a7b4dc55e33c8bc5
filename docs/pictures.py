"""Makes the pictures of the page and of the explorer in Chromium: report.png, report-gallery.png and explore.png.

Each keeps the digest of what it was made from, so that a test can tell when it is of something else.
"""

import hashlib
import re
import subprocess
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image, PngImagePlugin
from playwright.sync_api import Browser, Error, sync_playwright

DOCS = Path(__file__).parent
PAGE = DOCS / "fashion-mnist.html"
NETWORKS = [f"results/fashion-mnist-{method}" for method in ("bpfc", "normal")]
EXPLORER = ("page.py", "drawing.py", "style.css")
"""Of bpfc/explore, what decides how its page looks."""
SEEN = "source"
"""Under which a picture keeps its digest."""


def sources() -> dict[str, str]:
    """The digest of what each picture shows: the page but for its date, or what makes the explorer's."""
    page = re.sub(r"<time.*?</time>", "", PAGE.read_text(encoding="utf-8")).encode()
    explorer = b"".join((DOCS.parent / "bpfc/explore" / name).read_bytes() for name in EXPLORER)
    made_from = {"report.png": page, "report-gallery.png": page, "explore.png": explorer}
    return {name: hashlib.sha256(source).hexdigest() for name, source in made_from.items()}


def keep(name: str, shot: bytes) -> None:
    told = PngImagePlugin.PngInfo()
    told.add_text(SEEN, sources()[name])
    few = Image.open(BytesIO(shot)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)  # keeps rare colours
    few.save(DOCS / name, optimize=True, pnginfo=told)


def take_page(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(PAGE.as_uri())
    grid = page.locator("#attacks > .grid").bounding_box()
    assert grid
    high = grid["y"] + grid["height"] + 24
    keep("report.png", page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": high}))
    page = browser.new_page(viewport={"width": 1100, "height": 530}, color_scheme="dark")
    page.goto(PAGE.as_uri())
    page.get_by_label("Network").select_option("BPFC")
    page.get_by_label("Outcome").select_option("broken")
    page.evaluate("scrollTo(0, document.getElementById('gallery').offsetTop + 8)")
    page.wait_for_timeout(500)  # pictures are drawn when they come into sight
    keep("report-gallery.png", page.screenshot())


def take_explorer(browser: Browser) -> None:
    command = [sys.executable, "-m", "bpfc", "explore", *NETWORKS, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=DOCS.parent) as serving:
        try:
            assert serving.stdout
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            address = serving.stdout.readline().split()[0]
            while serving.poll() is None:  # the address is told before it answers
                with suppress(Error):
                    page.goto(address)
                    break
                time.sleep(0.2)
            page.get_by_text("Not attacked").first.wait_for()
            page.get_by_label("Test image").fill("3")
            page.get_by_text("test image 3,").wait_for()
            page.get_by_role("button", name="Attack").click()
            page.get_by_text("Step 20 of 20").first.wait_for()
            page.evaluate("document.activeElement.blur()")
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            end = page.locator(".networks").bounding_box()
            assert end
            page.set_viewport_size(
                {"width": 1280, "height": round(end["y"] + page.evaluate("scrollY") + end["height"]) + 24}
            )
            page.evaluate("scrollTo(0, 0)")
            keep("explore.png", page.screenshot())
        finally:
            serving.kill()


if __name__ == "__main__":
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        take_page(browser)
        take_explorer(browser)
        browser.close()
