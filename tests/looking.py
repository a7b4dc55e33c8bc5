"""What is wrong with a page, as a browser shows it: each script gives back what it found, nothing if all is well."""

from pathlib import Path

import axe_playwright_python
from playwright.sync_api import Page

CUT_OFF = """() => [...document.querySelectorAll('body *')].filter(one => {
    const box = one.getBoundingClientRect(), hidden = one.closest('thead, [hidden], details:not([open])');
    const drawn = one.tagName === 'text' && one.ownerSVGElement.getBoundingClientRect();
    const [left, right] = drawn ? [drawn.left, drawn.right] : [0, innerWidth];
    return !hidden && box.width && (box.right > right + 0.5 || box.left < left - 0.5);
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

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"


def hard_to_use(page: Page) -> list[str]:
    """What axe-core finds: names, roles, order, contrast, the keyboard; each with the elements that it is about.

    Of a gallery's cards, which are alike and many, it sees the first; of a drawing, the whole and its name.
    """
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({exclude: ['.card:nth-child(n+3)', 'svg *']})")["violations"]
    return [f"{each['id']}: {[node['html'][:120] for node in each['nodes']]}" for each in found]
