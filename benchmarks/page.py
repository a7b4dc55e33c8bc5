"""How large pages of bpfc report are, and how soon a browser shows them.

    python benchmarks/page.py PAGE.html …

Each page is opened a few times in Debian's Chromium, with nothing kept from before; the median counts. Painted is when
the first words stand there, loaded when all is there that is in sight. Processor time is that of the page's process,
which other work on the machine hardly moves. The aims are a second and 5 MB at 1,000 images.
"""

import re
import sys
from pathlib import Path
from statistics import median

from common import print_machine
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
ROUNDS = 7
TIMES = """() => [
    performance.getEntriesByName('first-contentful-paint')[0].startTime,
    performance.getEntriesByType('navigation')[0].loadEventEnd,
]"""


def opened(browser: Browser, page: Path) -> tuple[float, float, float]:
    """Milliseconds until it is painted and loaded, and of processor time."""
    with browser.new_context() as context:
        shown = context.new_page()
        asked = context.new_cdp_session(shown)
        asked.send("Performance.enable")
        shown.goto(page.resolve().as_uri(), wait_until="load")
        shown.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
        painted, loaded = shown.evaluate(TIMES)
        spent = {each["name"]: each["value"] for each in asked.send("Performance.getMetrics")["metrics"]}
        return painted, loaded, 1000 * spent["ProcessTime"]


def main(pages: list[Path]) -> None:
    print_machine()
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        print(f"Chromium {browser.version}")
        for page in pages:
            times = [opened(browser, page) for _ in range(ROUNDS)]
            painted, loaded, spent = (median(column) for column in zip(*times, strict=True))
            images = len(re.findall(r'class="card ', page.read_text(encoding="utf-8")))
            print(
                f"{page.name:24} {page.stat().st_size / 1e6:4.1f} MB, {images:5,} images, "
                f"painted after {painted:4.0f} ms, loaded after {loaded:4.0f} ms, "
                f"{spent:4.0f} ms of processor time"
            )
        browser.close()


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [Path("docs/fashion-mnist.html")])
