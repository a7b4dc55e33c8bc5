"""What the page says of runs, and what it says that nobody knows."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from page_runs import LIMIT, _quick, certify, change, made, rows_of, run

from bpfc.certification import ContradictionError
from bpfc.files import read_jsonl, write_json, write_jsonl
from bpfc.report.page import render_page
from bpfc.report.page.curves import _small, empty_bounds, over_eps, over_restarts, over_steps
from bpfc.report.page.gaps import _without_gradients, gaps
from bpfc.report.page.glance import WORST, glance
from bpfc.report.page.glossary import glossary
from bpfc.report.page.outcomes import accuracy_dots, outcomes
from bpfc.report.page.proofs import PROVEN
from bpfc.report.page.records import read_run
from bpfc.report.page.tables import cascade_tables

# What the ledger knows


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
    ((_, marks),) = glance([record]).rows
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
    assert "How much more than 2 seeds would change the figures of BPFC." in both
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
