"""The pictures of the page and of the explorer are of what stands there now. If not: make pictures."""

import runpy
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"


def test_pictures_are_of_what_stands_there_now() -> None:
    """README showed an explorer of other sliders, and a page without the classes of its networks."""
    made = runpy.run_path(str(DOCS / "pictures.py"))
    for name, digest in made["sources"]().items():
        with Image.open(DOCS / name) as picture:
            assert picture.info.get(made["SEEN"]) == digest, name


def test_all_that_writes_the_explorer_s_page_is_looked_at() -> None:
    made = runpy.run_path(str(DOCS / "pictures.py"))
    files = [each for kind in ("*.css", "*.py") for each in (DOCS.parent / "bpfc" / "explore").glob(kind)]
    writes = {each.name for each in files if each.suffix == ".css" or "Markup(" in each.read_text(encoding="utf-8")}
    assert writes <= set(made["EXPLORER"])
