"""Wherever figures of several radii or data sets may stand, the page says which it shows, and what it leaves out."""

import shutil
from pathlib import Path

import pytest
from page_runs import LIMIT, _quick, certify, change, made, run

from bpfc.report.page import render_page
from bpfc.report.page.curves import over_eps
from bpfc.report.page.gallery import gallery, images_of
from bpfc.report.page.glance import glances
from bpfc.report.page.names import told_apart
from bpfc.report.page.outcomes import left_out, outcomes
from bpfc.report.page.records import read_run


def at_another_radius(run: Path) -> None:
    shutil.copytree(run / "evaluation", run / "evaluation-near")
    for file in ("summary.json", "evaluation.json"):
        change(run / "evaluation-near" / file, eps=0.05)


@pytest.fixture
def three(run: Path, tmp_path: Path) -> list[Path]:
    """Runs on three data sets, each at a radius of its own."""
    folders = []
    for data, eps in (("mnist", 0.3), ("fashion-mnist", 0.1), ("cifar-10", 0.03)):
        folders.append(Path(shutil.copytree(run, tmp_path / f"{data}-bpfc")))
        change(folders[-1] / "recipe.json", data=data)
        for file in ("summary.json", "evaluation.json"):
            change(folders[-1] / "evaluation" / file, data=data, eps=eps)
    return folders


def test_bars_and_pictures_name_their_radius_and_those_left_out(run: Path) -> None:
    """One of two was shown, and nothing told which."""
    at_another_radius(run)
    record = read_run(run)
    (bar,) = outcomes([record])
    assert bar.under == f"ℓ∞ ε 0.1, {LIMIT} images: fgsm, pgd-5, pgd-3x2, deepfool"
    assert left_out([bar]) == " Not drawn here: BPFC, class 0 at ℓ∞ ε 0.05."
    found = gallery([record], {record.data: images_of(record, None)})
    assert found.radius == "ℓ∞ ε 0.1"
    assert found.others == ["BPFC, evaluation-near at ℓ∞ ε 0.05"]
    page = render_page([run], Path("page.html"))
    assert "ℓ∞ ε 0.1. Not shown: BPFC, evaluation-near at ℓ∞ ε 0.05." in page
    assert "Not drawn here: BPFC, class 0 at ℓ∞ ε 0.05." in page


def test_no_two_lines_over_eps_have_one_name(run: Path) -> None:
    certify(run, lambda _: False)
    at_another_radius(run)
    shutil.copytree(run / "certification", run / "certification-later")
    drawn = "".join(str(figure.drawn) for figure in over_eps([read_run(run)]))
    for folder in ("evaluation", "evaluation-near"):
        assert f"BPFC, nearest found by deepfool ({folder}):" in drawn
    for folder in ("certification", "certification-later"):
        assert f"BPFC, certified ({folder}):" in drawn


def test_each_data_set_has_a_first_figure_and_is_named_at_its_bar(three: list[Path]) -> None:
    """One was drawn under the title of three networks, and no bar named its radius."""
    records = told_apart([read_run(folder) for folder in three])
    whole = [f"{data}, ℓ∞ ε {eps}" for data, eps in (("MNIST", 0.3), ("Fashion-MNIST", 0.1), ("CIFAR-10", 0.03))]
    assert [each.about for each in glances(records)] == [f"{told}: the first {LIMIT} test images" for told in whole]
    assert [each.under.partition(f", {LIMIT} images")[0] for each in outcomes(records)] == whole
    captions = [figure.caption for figure in over_eps(records)]
    assert [caption.partition(".")[0] for caption in captions] == [
        f"Accuracy over ε, {told.partition(',')[0]}" for told in whole
    ]
    images = dict.fromkeys((record.data for record in records), images_of(read_run(three[0]), None))
    at = [f"BPFC, {told.replace(', ℓ', ' at ℓ')}" for told in whole]
    assert gallery(records, images).radius == "; ".join(at)
    page = render_page(three, Path("page.html"))
    assert page.count("Accuracy, clean and under attacks, in %</title>") == 3


def test_who_met_other_images_is_named_below_the_first_figure(run: Path) -> None:
    other = Path(shutil.copytree(run, run.with_name("other")))
    for file in ("summary.json", "evaluation.json"):
        change(other / "evaluation" / file, eps=0.05)
    page = render_page([run, other], Path("page.html"))
    assert "Not drawn here, having met other images or another ε: BPFC, other, class 0." in page
