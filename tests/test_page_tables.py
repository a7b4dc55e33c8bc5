"""The tables of the page: whose figures stand in them, and what stands beside each network."""

import shutil
from pathlib import Path

from page_runs import LIMIT, _quick, change, made, rows_of, run

from bpfc.ledger import wilson_interval
from bpfc.report.page import render_page
from bpfc.report.page.curves import over_steps
from bpfc.report.page.glance import glance
from bpfc.report.page.outcomes import outcomes
from bpfc.report.page.records import read_run
from bpfc.report.page.tables import attack_tables, cascade_tables, trained


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
    assert [name for name, _ in table.rows] == [
        "class",
        "none: clean",
        "fgsm",
        "pgd-5",
        "pgd-3x2",
        "deepfool",
        "worst case",
    ]
    assert over_steps([record]) == []


def test_a_suite_that_ran_twice_has_two_columns(run: Path) -> None:
    """From another seed, say; the last was shown, under the network's name alone."""
    for name in ("summary.json", "evaluation.json"):
        change(run / "evaluation" / name, cascade=True)
    shutil.copytree(run / "evaluation", run / "evaluation-seed1")
    for name in ("summary.json", "evaluation.json"):
        change(run / "evaluation-seed1" / name, seed=1)
    (table,) = cascade_tables([read_run(run)])
    assert table.header == ["after", "BPFC", "BPFC (evaluation-seed1)"]
    assert all(len(cells) == 2 for _, cells in table.rows)


def test_a_method_s_class_stands_beside_its_figures(run: Path) -> None:
    """Whether it saw adversarial examples; of a model that was handed in nobody knows."""
    handed_in = read_run(Path(shutil.copytree(run / "evaluation", run.with_name("handed-in"))))
    change(run / "recipe.json", method={"name": "pgd-at", "steps": 40})
    records = [read_run(run), handed_in]
    (table,) = attack_tables(records)
    assert table.header[:3] == ["", "class", "clean"]
    assert [cells[0].figure for _, cells in table.rows] == ["5", "–"]
    assert "class 5 trains on adversarial images" in table.notes[0]
    assert ("class", "5: the label's loss, or consistency, on adversarial images") in trained(records[0])
    assert ("class", "–") in trained(handed_in)
    assert [label for label, _ in glance(records).rows] == ["PGD-AT, class 5", "handed-in"]
    assert [outcome.run for outcome in outcomes(records)] == ["PGD-AT, class 5", "handed-in"]
    for name in ("summary.json", "evaluation.json"):
        change(run / "evaluation" / name, cascade=True)
    (suite,) = cascade_tables([read_run(run)])
    assert suite.rows[0] == ("class", [("5", "")])
    assert "class 5 trains on adversarial images" in suite.notes[0]
    page = render_page([run], Path("page.html"))
    assert "<h3>PGD-AT, class 5</h3>" in page
    assert "class 0 never takes the gradient by the image" in page.partition('<section id="training">')[0]
