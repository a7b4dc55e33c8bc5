"""Pages of runs whose names are long: nothing of them is cut off, on a desk or on a phone."""

import shutil
from pathlib import Path

import pytest
from looking import CUT_OFF
from page_runs import _quick, certify, change, made, run
from playwright.sync_api import Browser
from test_browser import _pages_are_closed, opened

from bpfc.report.page import render_page

LONG = ("my-robust-network-" * 5)[:80]


def page_of(folders: list[Path], out: Path) -> Path:
    out.write_text(render_page(folders, out))
    return out


@pytest.mark.parametrize("name", [LONG, "m" * 80, f"{'W' * 40} {'q' * 39}"])
def test_a_folder_s_long_name_fits(browser: Browser, made: Path, tmp_path: Path, name: str) -> None:
    """The gallery's list of networks was as wide as the name."""
    folder = Path(shutil.copytree(made / "evaluation", tmp_path / name))
    shutil.copytree(folder, folder / "evaluation-near")
    for file in ("summary.json", "evaluation.json"):
        change(folder / "evaluation-near" / file, eps=0.05)
    file = page_of([folder], tmp_path / "page.html")
    for width in (360, 1280):
        page, wrong = opened(browser, width, file=file)
        assert page.locator("#filters option").filter(has_text=name).count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT_OFF) == []
        assert wrong == []


def test_six_trainings_that_differ_in_the_seed_fit(browser: Browser, run: Path, tmp_path: Path) -> None:
    """Twelve names ran out of the figures, and what was left of them was alike."""
    certify(run, lambda _: False)
    folders = []
    for noise, told in ((True, "bpfc"), (False, "bpfc-simple-quantisation")):
        for seed in range(3):
            folders.append(Path(shutil.copytree(run, tmp_path / f"fashion-mnist-{told}-paper-seed{seed}")))
            method = {"name": "bpfc", "k": 7, "weight": 1.0, "distance": "l2", "coarse": "quantise", "noise": noise}
            change(folders[-1] / "recipe.json", seed=seed, method=method)
    file = page_of(folders, tmp_path / "page.html")
    for width in (360, 1280):
        page, _ = opened(browser, width, file=file)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT_OFF) == []
    drawn = page.locator("#outcomes text.name").all_text_contents()
    assert "BPFC, seed 2, class 0" in drawn
    assert "BPFC, A1 (simple quantisation), seed 2," in drawn
