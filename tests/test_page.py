"""The page about runs: made of their files alone, whole in one file, and honest about what it does not know."""

import base64
import html
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import small_network
from PIL import Image

from bpfc.certification import ContradictionError
from bpfc.cli import evaluate, report
from bpfc.data import DataSet
from bpfc.errors import UserError
from bpfc.files import read_jsonl, without_checksum, write_json, write_jsonl
from bpfc.ledger import wilson_interval
from bpfc.methods import BPFC
from bpfc.models import NETWORKS
from bpfc.report.page import gallery as gallery_module
from bpfc.report.page import planes, render_page
from bpfc.report.page.curves import _small, empty_bounds, over_eps, over_restarts, over_steps
from bpfc.report.page.gallery import gallery, images_of
from bpfc.report.page.gaps import _without_gradients, gaps
from bpfc.report.page.glossary import glossary
from bpfc.report.page.outcomes import accuracy_dots, outcomes
from bpfc.report.page.pictures import amplified, strip
from bpfc.report.page.records import NothingToReportError, read_run
from bpfc.report.page.svg import Axis, Series, chart, ticks
from bpfc.report.page.tables import PROVEN, WORST, attack_tables, cascade_tables, glance
from bpfc.training.recipes import RECIPES
from bpfc.training.start import train

ROOT = Path(__file__).parent.parent
LIMIT = 12


@pytest.fixture(scope="module", autouse=True)
def _quick(digits: DataSet) -> Iterator[None]:
    """A small network under the name of a real one, and digits that are read once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bpfc.data.load", lambda *_: digits)
        patch.setattr(gallery_module, "load", lambda *_: digits)
        patch.setitem(NETWORKS, "m-lenet", lambda *_: small_network())
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, attacked on twelve images, with pictures."""
    folder = tmp_path_factory.mktemp("page") / "digits"
    recipe = replace(
        RECIPES["mnist-5k-bpfc"][1],
        epochs=2,
        limit=1200,
        validation=20,
        validation_attacked=20,
        ifgsm_steps=2,
        batch_size=25,
        lr=0.05,
        clip_norm=1.0,
        method=BPFC(k=7, weight=1.0),
        select="last",
    )
    train(recipe, folder, device="cpu", precision="fp32")
    attacks = "fgsm,pgd-5,pgd-3x2,deepfool"
    options = evaluate.Evaluate(
        folder, attacks=attacks, eps=0.1, step_size=0.025, limit=LIMIT, device="cpu", precision="fp32"
    )
    evaluate.run(replace(options, save_images=True))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same, to do harm to."""
    return Path(shutil.copytree(made, tmp_path / "digits"))


def rows_of(run: Path) -> list[dict[str, Any]]:
    return read_jsonl(run / "evaluation" / "ledger.jsonl")


def change(path: Path, **changes: Any) -> None:
    write_json(path, without_checksum(json.loads(path.read_text())) | changes)


def certify(run: Path, proves: Callable[[dict[str, Any]], bool]) -> None:
    """Puts certificates beside the evaluation, as bpfc certify writes them."""
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    (run / "certification").mkdir()
    rows = [
        {
            **{name: row[name] for name in ("index", "label", "prediction")},
            "certified_by": "interval" if proves(row) else None,
            "margin_lower": 0.1 if proves(row) else -1.0,
        }
        for row in rows_of(run)
    ]
    write_jsonl(run / "certification" / "certificates.jsonl", rows)
    kept = {name: summary[name] for name in ("images", "clean", "eps", "weights_sha256", "data", "provenance")}
    kept["certified"] = {"accuracy": sum(row["certified_by"] is not None for row in rows) / len(rows)}
    kept["curve"] = {"eps": [0.001, 0.1], "certified": [0.5, 0.25]}
    write_json(run / "certification" / "summary.json", kept | {"radius": {"median": 0.00047, "largest": 0.0012}})


# The page as a whole


def test_nothing_on_the_page_comes_from_elsewhere(made: Path) -> None:
    page = render_page([made], Path("page.html"))
    assert "://" not in page
    assert "default-src 'none'" in page
    addresses = re.findall(r'(?:src|href|action|srcset|poster|data)="([^"]*)"', page)
    assert len(addresses) > LIMIT
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import", page)


def test_the_same_files_make_the_same_bytes_but_for_the_date(made: Path) -> None:
    one, two = (re.sub(r"<time.*?</time>", "", render_page([made], Path("page.html"))) for _ in range(2))
    assert one == two
    assert not re.search(r"20\d\d-\d\d-\d\d(?!T)", one)


def test_every_figure_has_a_title_and_every_picture_a_text(made: Path) -> None:
    page = render_page([made], Path("page.html"))
    drawn = re.findall(r'<svg [^>]*role="img" aria-labelledby="(\S+) (\S+)">', page)
    assert len(drawn) >= 6
    for name in (name for pair in drawn for name in pair):
        assert page.count(f'id="{name}"') == 1
    assert re.findall(r"<img (?![^>]*alt=\"[^\"]+)", page) == []
    every = re.findall(r'\bid="([^"]+)"', page)
    assert len(every) == len(set(every))
    for link in re.findall(r'href="#([^"]+)"', page):
        assert link in every


def test_what_files_say_is_text_and_never_html(run: Path) -> None:
    change(run / "evaluation" / "summary.json", warnings=["<script>alert(1)</script>"])
    page = render_page([run], Path("page.html"))
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_the_verb_writes_the_page_and_says_so(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "page.html"
    report.main(report.parse([str(made), "--out", str(out)]))
    assert "page.html: 0." in capsys.readouterr().out
    page = out.read_text()
    assert page.startswith("<!doctype html>")
    assert f"bpfc report {made} --out {out}" in page
    with pytest.raises(ValueError, match="is a folder; name the file"):
        report.main(report.parse([str(made), "--out", str(tmp_path)]))
    with pytest.raises(ValueError, match="no run: name at least one"):
        report.main(report.Report(()))


def test_folders_that_make_no_page_are_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToReportError, match=f"{tmp_path}: holds neither a run nor an evaluation"):
        render_page([tmp_path], Path("page.html"))
    with pytest.raises(ValueError, match="digits: is named twice"):
        render_page([made, made / ".." / "digits"], Path("page.html"))


def test_runs_of_one_name_are_told_apart(made: Path, run: Path) -> None:
    other = run.rename(run.with_name("again"))
    page = render_page([made, other], Path("page.html"))
    assert "BPFC, digits" in page
    assert "BPFC, again" in page
    assert "2 networks under attack" in page
    assert "any network here" in page


def test_the_committed_page_says_what_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what needs the images. If it differs: make page."""
    page = (ROOT / "docs" / "fashion-mnist.html").read_text()
    assert len(page.encode()) < 10**6
    command = re.search(r"<code>(bpfc report .*?)</code>", page)
    assert command
    asked = report.parse(shlex.split(command[1])[2:])
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("bpfc.report.page.render.images_of", lambda *_: None)
    again = render_page(asked.runs, asked.out)
    for part in ("attacks", "over", "audit", "training", "unknown", "provenance"):
        found = [re.search(rf'<section id="{part}">.*?</section>', text, re.DOTALL) for text in (page, again)]
        assert found[0]
        assert found[1]
        assert found[0][0] == found[1][0], part


# What the ledger knows


def test_a_table_has_the_summary_s_figures(made: Path) -> None:
    record = read_run(made)
    (table,) = attack_tables([record])
    assert table.title == f"mnist-5k, ℓ∞ ε 0.1: the first {LIMIT} test images"
    right = sum(
        row["broken_by"] is None or not row["attacks"]["pgd-5"]["broken"] for row in rows_of(made) if row["attacks"]
    )
    at = table.header.index("pgd-5")
    low, high = wilson_interval(right, LIMIT)
    assert table.rows[0][1][at - 1] == (f"{100 * right / LIMIT:.1f}", f"{100 * low:.1f} … {100 * high:.1f}")


def test_a_cascade_has_a_table_of_its_own(run: Path) -> None:
    for name in ("summary.json", "evaluation.json"):
        change(run / "evaluation" / name, cascade=True)
    record = read_run(run)
    assert attack_tables([record]) == []
    (table,) = cascade_tables([record])
    assert [name for name, _ in table.rows] == ["none: clean", "fgsm", "pgd-5", "pgd-3x2", "deepfool", "worst case"]
    assert over_steps([record]) == []


def points(path: str) -> str:
    return re.findall(r'<path class="line s0" d="([^"]+)"', path)[0]


def test_steps_and_restarts_are_counted_from_the_rows(made: Path) -> None:
    """Against a count by hand, read back from the figure's own path."""
    rows = rows_of(made)
    figures = {figure.caption.split(",")[0]: figure.drawn for figure in over_steps([read_run(made)])}
    assert set(figures) == {"pgd-5"}

    def heights(path: str) -> list[float]:
        return [float(y) for y in re.findall(r"[MV](?:[\d.]+ )?([\d.]+)", points(path))]

    broke = [row["attacks"]["pgd-5"]["step"] for row in rows if row["attacks"].get("pgd-5", {}).get("broken")]
    right = sum(row["broken_by"] != "clean" for row in rows)
    stand = [right - sum(at <= step for at in broke) for step in range(6)]
    expected = [round(26 + 146 * (1 - count / LIMIT), 1) for count in dict.fromkeys(stand)]
    assert len(expected) > 1
    assert heights(str(figures["pgd-5"])) == expected
    (restarts,) = over_restarts([read_run(made)])
    assert restarts.caption.startswith("pgd-3x2")


def test_the_nearest_images_found_and_certificates_draw_curves_over_eps(run: Path) -> None:
    certify(run, lambda row: row["broken_by"] is None)
    drawn = str(over_eps([read_run(run)])[0].drawn)
    assert "BPFC, nearest found by deepfool" in drawn
    assert "BPFC, certified: from 50 to 25" in drawn


def test_why_nothing_is_certified_is_said_with_the_radius_up_to_which_something_is(run: Path) -> None:
    certify(run, lambda row: False)
    told = empty_bounds([read_run(run)])
    assert "Of BPFC nothing is certified at ε" in told
    assert "reach to ε 0.00047 in the median, 0.0012 at most" in told
    assert told in render_page([run], Path("page.html"))
    assert _small(6.34e-05) == "0.000063"


def test_of_a_network_with_proofs_no_excuse_is_made(run: Path) -> None:
    certify(run, lambda row: row["broken_by"] is None)
    assert empty_bounds([read_run(run)]) == ""


def test_outcomes_count_every_image_once(run: Path) -> None:
    rows = rows_of(run)
    (found,) = outcomes([read_run(run)])
    assert found.shares["certified"] is None
    assert found.shares["clean"] == sum(row["broken_by"] == "clean" for row in rows) / LIMIT
    standing = [row["index"] for row in rows if row["broken_by"] is None]
    assert standing
    certify(run, lambda row: row["index"] == standing[0])
    (found,) = outcomes([read_run(run)])
    assert found.shares["certified"] == 1 / LIMIT
    assert found.shares["open"] == pytest.approx((len(standing) - 1) / LIMIT)
    assert sum(share or 0 for share in found.shares.values()) == pytest.approx(1)
    assert sum(found.by.values()) == pytest.approx((found.shares["broken"] or 0) * LIMIT)


def test_outcomes_and_proofs_are_shown_where_only_summaries_were_kept(run: Path) -> None:
    """As of networks in results/ whose ledgers are too large to commit: seven of nine had no bar."""
    certify(run, lambda row: row["broken_by"] is None)
    (before,) = outcomes([read_run(run)])
    between = {"certified": before.shares["certified"], "not_broken": before.shares["certified"], "open": 0.0}
    change(run / "evaluation" / "summary.json", between=between, cascade=True)
    for name in ("evaluation/ledger.jsonl", "evaluation/evaluation.json", "certification/certificates.jsonl"):
        (run / name).unlink()
    record = read_run(run)
    (after,) = outcomes([record])
    assert after.shares == pytest.approx(before.shares)
    assert (before.by != {}, after.by) == (True, {})
    assert not any("no certificate" in line for line in gaps([record], {record.data: None}))
    (table,) = cascade_tables([record])
    assert table.title.startswith("evaluation: mnist-5k, ℓ∞ ε 0.1")
    share = f"{100 * (before.shares['certified'] or 0):.1f}"
    assert table.rows[-1] == ("certified", [(share, "")])
    _, ((_, marks),) = glance([record])
    assert list(marks) == ["clean", WORST, PROVEN]
    assert marks[PROVEN][0] == before.shares["certified"]
    assert marks[PROVEN][1] < marks[PROVEN][0] < marks[PROVEN][2]


def test_no_mark_of_the_first_figure_hides_another() -> None:
    """pgd-100 lay under pgd-1000, and intervals under both."""
    drawn = str(accuracy_dots([("A", dict.fromkeys("abcdef", (0.5, 0.4, 0.6))), ("B", {"b": (0.5, 0.4, 0.6)})]))
    spots = re.findall(r'class="mark s\d" transform="translate\(([\d.]+) ([\d.]+)\)"', drawn.partition("</svg>")[0])
    assert len(set(spots)) == len(spots) == 7
    assert all(float(high) > 8 for high in re.findall(r'class="interval s\d" .*? height="([\d.]+)"', drawn))


def test_attacks_names_are_explained_each_with_what_it_refers_to(made: Path) -> None:
    told = dict(glossary([read_run(made)]))
    assert told == {
        "fgsm": "one step of ε along the gradient's sign",
        "pgd-STEPS[xRESTARTS]": "random start, steps of a fixed length",
        "deepfool": "nearest misclassified image, in ε's norm",
    }
    item = read_run(made).evaluations[0]
    other = replace(item, summary=item.summary | {"attacks": dict.fromkeys(("pgd-dlr-9", "aa-square", "aa-apgd-t"))})
    found = glossary([replace(read_run(made), evaluations=[other])])
    assert [name for name, _ in found] == ["pgd-STEPS[xRESTARTS]", "pgd-dlr-STEPS[xRESTARTS]", "aa-apgd-t, aa-square"]


def test_certified_and_broken_at_once_is_no_page(run: Path) -> None:
    certify(run, lambda row: row["broken_by"] not in (None, "clean"))
    with pytest.raises(ContradictionError, match="is certified by interval and broken by"):
        render_page([run], Path("page.html"))


def test_ledger_and_summary_must_agree(run: Path) -> None:
    worst = {"accuracy": 0.99, "interval_95": [0.9, 1.0]}
    change(run / "evaluation" / "summary.json", worst_case=worst)
    with pytest.raises(ValueError, match=r"ledger.jsonl: its rows give .* but summary.json beside it says 99.0%"):
        read_run(run)


def test_a_row_that_somebody_changed_is_named(run: Path) -> None:
    path = run / "evaluation" / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1].replace('"index": 1', '"index": 99'), *lines[2:]]))
    with pytest.raises(ValueError, match=r"ledger.jsonl: line 2 is damaged or edited"):
        read_run(run)


def test_a_log_holds_numbers(run: Path) -> None:
    write_jsonl(run / "log.jsonl", [{"epoch": "one"}])
    with pytest.raises(ValueError, match=r"log\.jsonl: line 1 holds what is no number"):
        read_run(run)


def test_doubled_and_missing_rows_are_named(run: Path) -> None:  # they gave another figure
    path = run / "evaluation" / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1]]))
    with pytest.raises(ValueError, match=r"ledger.jsonl: a second row of image 1;"):
        read_run(run)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match=rf"holds {LIMIT - 1} rows, but summary.json beside it is of {LIMIT};"):
        read_run(run)


def test_a_certification_that_goes_on_to_more_images_is_shown_as_it_was(run: Path) -> None:
    certify(run, lambda row: row["index"] % 2 == 0)
    path = run / "certification" / "certificates.jsonl"
    rows = read_jsonl(path)
    write_jsonl(path, [*rows, rows[0] | {"index": LIMIT}])
    assert read_run(run).certifications["certification"]["rows"] == rows


def test_a_killed_evaluation_counts_what_it_has(run: Path) -> None:
    (run / "evaluation" / "summary.json").unlink()
    write_jsonl(run / "evaluation" / "ledger.jsonl", rows_of(run)[:7])
    record = read_run(run)
    assert record.evaluations[0].images == 7
    told = gaps([record], {record.data: None})
    assert f"BPFC, evaluation: stopped after 7 of {LIMIT} images; the same command goes on." in told


# What is not known


def test_what_was_not_done_is_said(made: Path, run: Path) -> None:
    record = read_run(made)
    told = " ".join(gaps([record], {record.data: None}))
    for said in (
        "each was trained once (n = 1)",
        "488 of 500 test images were attacked by nothing",
        "What AutoAttack leaves of this network: it was not run",
        "none without gradients was run",
        "2 epochs; what 50 would give is not known",
        "trained on 1,200 images only",
        "no certificate was computed",
        "no audit was made",
    ):
        assert said in told
    change(run / "recipe.json", seed=1)
    both = gaps([record, read_run(run)], {record.data: None})
    assert "BPFC: 2 seeds" in both
    change(run / "evaluation" / "summary.json", weights_sha256="0" * 64)
    certify(run, lambda _: False)
    change(run / "certification" / "summary.json", weights_sha256="1" * 64)
    assert any(
        "of different weights (certification, evaluation)" in line for line in gaps([read_run(run)], {"mnist-5k": None})
    )


def test_how_many_images_each_attack_met_is_said_and_where_no_ledger_is_kept(made: Path, run: Path) -> None:
    """Only the largest evaluation was looked at, so that a suite on a tenth of its images seemed to be on all."""
    record = read_run(made)
    met = f"fgsm, pgd-5, pgd-3x2, deepfool met the first {LIMIT} of 500, of BPFC."
    assert any(met in line for line in gaps([record], {record.data: None}))
    assert not any("no ledger" in line or "none were kept" in line for line in gaps([record], {record.data: None}))
    evaluation = run / "evaluation"
    shutil.copytree(evaluation, run / "evaluation-all")
    for name in ("ledger.jsonl", "evaluation.json"):
        (run / "evaluation-all" / name).unlink()
    shares = json.loads((evaluation / "summary.json").read_text())["attacks"]
    change(run / "evaluation-all" / "summary.json", images=500, attacks={"fgsm": shares["fgsm"]})
    told = gaps([read_run(run)], {record.data: None})
    assert any(f"show: pgd-5, pgd-3x2, deepfool met the first {LIMIT} of 500" in line for line in told)
    shutil.rmtree(evaluation)
    told = gaps([replace(read_run(run), label="A1, short"), replace(record, label="A2, long")], {record.data: None})
    assert any(line.startswith("What became of each image of A1, short: no ledger") for line in told)
    assert any("AutoAttack leaves of any network here" in line for line in told)
    assert any("none without gradients was run at length" in line for line in told)


@pytest.mark.parametrize(
    ("names", "long"), [({"square-500"}, False), ({"spsa-10"}, False), ({"square-5000"}, True), ({"aa-square"}, True)]
)
def test_a_short_attack_without_gradients_settles_nothing(names: set[str], long: bool) -> None:
    assert _without_gradients(names) == long


def test_an_audit_s_verdict_stands_on_the_page(run: Path) -> None:
    finding = {"id": "C1", "title": "one step", "outcome": "flag", "settled": "open", "measured": "12.0 below"}
    made_by = json.loads((run / "evaluation" / "summary.json").read_text())["provenance"]
    (run / "audit").mkdir()
    content = {"verdict": "open", "sentence": "open: it may be lower.", "findings": [finding], "provenance": made_by}
    write_json(run / "audit" / "audit.json", content)
    page = render_page([run], Path("page.html"))
    assert "<b>open</b> it may be lower." in page  # the word once
    assert '<td data-label="outcome">flag, open</td>' in page
    assert "no audit was made" not in page


ALONG = [-1.0, 0.0, 1.0]
FIGURES = {
    "eps": [[0.0, 0.9], [0.1, 0.5], [0.2, 0.1]],
    "steps": {"pgd-10": [[0, 0.9], [10, 0.6]], "pgd-40": [[0, 0.6], [40, 0.5]]},
    "restarts": [[0, 0.5], [5, 0.45]],
    "climb": {"low": [-3.0, -2.0], "median": [-2.0, -1.0], "high": [-1.0, -0.5]},
    "surface": {
        "gradient": ALONG,
        "random": ALONG,
        "loss": [[-2, -1.5, -2], [-1, 0, -1], [1, 2, 1.5]],
        "images": 8,
    },
}
"""What an audit draws, in small."""


def test_an_audit_s_figures_are_drawn(run: Path) -> None:
    made_by = json.loads((run / "evaluation" / "summary.json").read_text())["provenance"]
    (run / "audit").mkdir()
    content = {"verdict": "stands", "sentence": "stands.", "findings": [], "provenance": made_by}
    write_json(run / "audit" / "audit.json", content | {"figures": FIGURES})
    page = render_page([run], Path("page.html"))
    drawn = re.findall(r'aria-labelledby="audit0-0-(\w+)-t', page)
    assert drawn == ["eps", "steps", "restarts", "climb", "surface"]
    surface = page[page.index('<title id="audit0-0-surface-t">') :].partition("</svg>")[0]
    assert "mean margin of 8 images, from -2 to 2" in surface
    shades = re.findall(r'fill="(#\w+)"><title>([-\d.]+)', surface)
    assert len(shades) == 9
    assert ("#ffffff", "0") in shades
    assert [shade for shade, value in shades if value == "2"] == ["#c0282d"]
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    write_json(run / "audit" / "audit.json", content | {"figures": FIGURES | {"surface": None}})
    assert "audit0-0-surface" not in render_page([run], Path("page.html"))


# Pictures


def picture(address: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))


def test_the_gallery_shows_each_image_and_what_the_network_takes_it_for(made: Path) -> None:
    record = read_run(made)
    found = gallery([record], {record.data: images_of(record, None)})
    assert [card.index for card in found.cards] == list(range(LIMIT))
    broken = [card for card in found.cards if card.outcome == "broken"]
    assert broken
    for card in broken:
        assert picture(card.address).size == (3 * 28 + 2 * 2, 28)
        guess = re.search(r"read as (\d)", card.told)
        assert guess
        assert guess[1] != card.label
    assert all(picture(card.address).size == (28, 28) for card in found.cards if card.outcome != "broken")
    assert set(found.values("outcome")) <= {"broken", "stands", "misclassified"}


def test_images_are_looked_for_where_data_dir_says_and_the_command_says_so_too(
    made: Path, tmp_path: Path, digits: DataSet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without BPFC_DATA the predictions were looked up elsewhere, by a download, and left out."""
    asked = []
    monkeypatch.setattr(gallery_module, "load", lambda _, where=None: asked.append(where) or digits)
    elsewhere, out = tmp_path / "my data", tmp_path / "page.html"
    report.main(report.parse([str(made), "--out", str(out), "--data-dir", str(elsewhere)]))
    assert asked == [elsewhere] * 2  # the images, and the network's answers to them
    page = out.read_text()
    assert ", read as " in page
    command = re.search(r"<code>(bpfc report .*?)</code>", page)
    assert command
    again = report.parse(shlex.split(html.unescape(command[1]))[2:])
    assert (again.runs, again.out, again.data_dir) == ((made,), out, elsewhere)
    assert "data-dir" not in render_page([made], out)  # a page that is meant for others names no folder of this machine


def test_without_weights_or_pictures_the_gallery_says_so(run: Path) -> None:
    (run / "model.safetensors").unlink()
    record = read_run(run)
    images = images_of(record, None)
    cards = gallery([record], {record.data: images}).cards
    assert not any("read as" in card.told for card in cards if card.outcome == "broken")
    assert "are not to be had here" in gallery([record], {record.data: None}).advice[0]
    shutil.rmtree(run / "evaluation" / "adversarial")
    record = read_run(run)
    found = gallery([record], {record.data: images})
    assert found.cards == []
    assert "--save-images" in found.advice[0]


def test_a_gallery_stays_small_and_says_what_it_leaves_out(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_module, "BYTES", 3000)
    record = read_run(made)
    found = gallery([record], {record.data: images_of(record, None)})
    assert 0 < len(found.cards) < LIMIT
    assert found.left_out == LIMIT - len(found.cards)
    assert f"{found.left_out} more images have no room here" in render_page([made], Path("page.html"))


def test_a_damaged_picture_is_named(run: Path) -> None:
    path = sorted((run / "evaluation" / "adversarial").glob("*.npy"))[0]
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=f"{path.name}: not an image as bpfc evaluate saves it"):
        render_page([run], Path("page.html"))


def test_pictures_keep_pixels_and_large_ones_shrink() -> None:
    image = torch.arange(16.0).view(1, 4, 4) / 255
    assert list(picture(strip([image])).tobytes()) == list(range(16))
    assert picture(strip([torch.zeros(3, 200, 100)])).size == (32, 64)
    assert amplified(torch.tensor([-0.1, 0.0, 0.1]), 0.1).tolist() == pytest.approx([0, 0.5, 1])


def test_the_quantiser_s_figure_says_what_the_paper_s_table_does() -> None:
    images = torch.arange(256).view(1, 1, 16, 16) / 255
    told = planes.kept(images, 6)
    assert "0, 32, 96, 160, 224, 255" in told
    (row,) = planes.rows(images, ["grey"], 6)
    assert picture(row.address).size == (10 * 16 + 9 * 2, 16)
    assert "0 to 5 are dropped" in row.alt


def test_axes() -> None:
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(1, 6) == [1, 2, 3, 4, 5, 6]
    axis = Axis("ε", 0.001, 1, (), log=True)
    assert axis.share(0.001) == 0
    assert axis.share(0.1) == pytest.approx(2 / 3)
    assert axis.share(7) == 1


DAMAGE = {"empty": "", "null": "null", "number": "5", "list": "[]", "object": "{}", "deep": "[" * 100_000, "odd": "[5]"}
FILES = (
    *("recipe.json", "provenance.json", "log.jsonl", "evaluation/evaluation.json", "evaluation/ledger.jsonl"),
    *("evaluation/summary.json", "certification/summary.json", "certification/certificates.jsonl", "audit/audit.json"),
)


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named(file: str, run: Path) -> None:
    certify(run, lambda row: False)
    (run / "audit").mkdir()
    write_json(run / "audit" / "audit.json", {"verdict": "stands", "sentence": "", "findings": []})
    path = run / file
    sound = path.read_bytes()
    for damage, content in DAMAGE.items():
        path.write_text(content + "\n")
        holds_nothing = {"log.jsonl": ("empty",), "provenance.json": ("list",), "evaluation/summary.json": ("object",)}
        if damage in holds_nothing.get(file, ()) or (file.endswith("ledger.jsonl") and damage == "empty"):
            continue  # as before an epoch, a start or an end
        if file.endswith(".jsonl") and damage == "empty":
            path.write_text("\n")
        with pytest.raises((UserError, ValueError), match=Path(file).name) as raised:
            render_page([run], run / "page.html")
        assert "\n" not in str(raised.value)
    if path.suffix == ".json":
        flipped = bytearray(sound)
        flipped[sound.index(b":") + 3] ^= 1
        path.write_bytes(flipped)
        with pytest.raises((UserError, ValueError), match=Path(file).name):
            render_page([run], run / "page.html")


def test_a_figure_of_a_constant_is_drawn() -> None:
    for log in (False, True):
        y = Axis("margin", 0.0, 0.0, ticks(0.0, 0.0), log)
        assert "<path" in chart("slug", "title", Axis("steps", 0, 1, [0, 1]), y, [Series("one", [(0, 0), (1, 0)], 0)])
