"""No figure on a page stands beside those of other images: each data set has tables, proofs and pictures of its own."""

import shutil
from pathlib import Path

import pytest
from page_runs import LIMIT, _quick, certify, change, made, run

from bpfc.data import AnyImages
from bpfc.errors import UserError
from bpfc.report.page import render_page
from bpfc.report.page.apart import apart
from bpfc.report.page.curves import over_steps
from bpfc.report.page.gallery import gallery, images_of
from bpfc.report.page.outcomes import outcomes
from bpfc.report.page.records import read_run
from bpfc.report.page.tables import attack_tables


def another(evaluation: Path, copy: Path, **changes: object) -> None:
    """The same evaluation as one of something else."""
    shutil.copytree(evaluation, copy)
    for name in ("summary.json", "evaluation.json"):
        change(copy / name, **changes)


@pytest.fixture
def handed_in(made: Path, tmp_path: Path) -> Path:
    """A folder with evaluations of a model on two data sets."""
    for data in ("mnist-5k", "mnist"):
        another(made / "evaluation", tmp_path / "handed-in" / data, data=data)
    return tmp_path / "handed-in"


def test_a_model_on_two_data_sets_has_a_table_and_pictures_of_each(handed_in: Path) -> None:
    """The first's name stood above the figures of both."""
    records = apart(read_run(handed_in))
    assert [(record.label, record.data) for record in records] == [
        ("handed-in, mnist", "mnist"),
        ("handed-in, mnist-5k", "mnist-5k"),
    ]
    tables = attack_tables(records)
    titles = [f"{data}, ℓ∞ ε 0.1: the first {LIMIT} test images" for data in ("MNIST", "mnist-5k")]
    assert [table.title for table in tables] == titles
    assert [[name for name, _ in table.rows] for table in tables] == [[record.label] for record in records]
    captions = [figure.caption for figure in over_steps(records)]
    assert [caption.partition(" test images. ")[0] for caption in captions] == [
        f"pgd-5, {title.removesuffix(' test images')}" for title in titles
    ]
    images: dict[str, AnyImages | None] = {"mnist": images_of(records[0], None), "mnist-5k": None}
    found = gallery(records, images)
    assert {card.run for card in found.cards} == {"handed-in, mnist"}
    assert "the images of mnist-5k are not to be had here" in found.advice[0]
    page = render_page([handed_in], Path("page.html"))
    assert all(title in page for title in titles)


def test_what_lies_in_a_run_and_is_of_other_data_is_no_figure_of_the_run(run: Path) -> None:
    certify(run, lambda row: row["broken_by"] not in (None, "clean"))  # of the same images, that would be a mistake
    change(run / "certification" / "summary.json", data="mnist")
    another(run / "evaluation", run / "evaluation-mnist", data="mnist", weights_sha256="0" * 64)
    records = apart(read_run(run))
    assert [(record.label, record.data, record.recipe is None) for record in records] == [
        ("BPFC", "mnist-5k", False),
        ("BPFC, evaluation-mnist", "mnist", True),
        ("BPFC, certification", "mnist", True),
    ]
    assert [record.label for record in records if record.certifications] == ["BPFC, certification"]
    assert [outcome.shares["certified"] for outcome in outcomes(records)[:2]] == [None, None]
    assert outcomes(records)[2].under == f"MNIST, ℓ∞ ε 0.1, {LIMIT} images: no attack"
    page = render_page([run], Path("page.html"))
    assert f"MNIST, ℓ∞ ε 0.1: the first {LIMIT} test images" in page


def test_other_images_under_one_name_are_refused(handed_in: Path) -> None:
    for name, digest in (("mnist", "0"), ("mnist-5k", "1")):
        for file in ("summary.json", "evaluation.json"):
            change(handed_in / name / file, data="my/pictures", data_sha256=digest)
    told = r"handed-in, mnist-5k: of other images than .*handed-in, mnist, though both are of my/pictures; make a page"
    with pytest.raises(UserError, match=told):
        render_page([handed_in], Path("page.html"))
    with pytest.raises(UserError, match="of other images than"):
        render_page([handed_in / "mnist", handed_in / "mnist-5k"], Path("page.html"))
    change(handed_in / "mnist-5k" / "summary.json", data_sha256="0")
    assert [record.label for record in apart(read_run(handed_in))] == ["handed-in"]
    assert "my/pictures" in render_page([handed_in], Path("page.html"))


def test_an_ordinary_run_is_one_record_whatever_its_weights(run: Path) -> None:
    certify(run, lambda _: False)
    another(run / "evaluation", run / "evaluation-later", weights_sha256="0" * 64)
    record = read_run(run)
    assert apart(record) == [record]
