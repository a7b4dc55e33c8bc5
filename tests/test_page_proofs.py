"""What the page shows of what is proven: beside attacks, and where none was run."""

import json
import shutil
from pathlib import Path

from page_runs import LIMIT, _quick, certify, change, made, rows_of, run

from bpfc.files import write_json
from bpfc.report.page import render_page
from bpfc.report.page.gaps import gaps
from bpfc.report.page.glance import glances
from bpfc.report.page.outcomes import outcome_bars, outcomes
from bpfc.report.page.proofs import PROVEN, certificate_tables
from bpfc.report.page.records import read_run


def proven_alone(run: Path) -> int:
    """A run with certificates and nothing else; how many of its images are certified."""
    certify(run, lambda row: row["broken_by"] is None)
    count = sum(row["broken_by"] is None for row in rows_of(run))
    shutil.rmtree(run / "evaluation")
    return count


def test_certificates_are_shown_where_nothing_was_attacked(run: Path) -> None:
    """There was no bar, no table and no figure of them."""
    clean = sum(row["broken_by"] != "clean" for row in rows_of(run)) / LIMIT
    count = proven_alone(run)
    record = read_run(run)
    (bar,) = outcomes([record])
    share = count / LIMIT
    assert bar.shares == {"clean": 1 - clean, "broken": None, "open": clean - share, "certified": share}
    drawn = str(outcome_bars([bar]))
    assert f"ℓ∞ ε 0.1, {LIMIT} images: no attack" in drawn
    assert "broken by an attack" not in drawn
    (table,) = certificate_tables([record])
    assert table.title == f"Certified, mnist-5k, ℓ∞ ε 0.1: the first {LIMIT} test images"
    assert table.header == ["", "class", "clean", PROVEN, "interval"]
    assert table.rows[0][1][2].figure == f"{100 * share:.1f}"
    assert " … " in table.rows[0][1][2].interval
    (glance,) = glances([record])
    assert list(glance.rows[0][1]) == ["clean", PROVEN]
    page = render_page([run], Path("page.html"))
    assert "<h2>What is proven</h2>" in page
    assert "No attack was run. Run <code>bpfc evaluate</code>." in page
    assert "under attack" not in page.partition("</header>")[0]
    assert "BPFC, certified: from 50 to 25" in page  # over ε


def test_a_folder_of_certificates_or_an_audit_alone_is_a_page(run: Path, tmp_path: Path) -> None:
    """Of a model that was handed in: refused, as if nothing were there."""
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    proven_alone(run)
    made_by = {name: summary[name] for name in ("provenance", "data", "weights_sha256", "images")}
    content = {"verdict": "open", "sentence": "open: it may be lower.", "findings": []} | made_by
    (tmp_path / "audited").mkdir()
    write_json(tmp_path / "audited" / "audit.json", content)
    proven = Path(shutil.copytree(run / "certification", tmp_path / "proven"))
    page = render_page([proven], Path("page.html"))
    assert "<h1>mnist-5k: proven</h1>" in page
    assert "Certified, mnist-5k" in page
    page = render_page([tmp_path / "audited"], Path("page.html"))
    assert "<b>open</b> it may be lower." in page
    assert "No attack was run but those of the audit, below." in page
    told = " ".join(gaps([read_run(tmp_path / "audited")], {"mnist-5k": None}))
    assert "this network: an audit alone attacked it" in told
    assert "no attack was run" not in told
    assert f"{500 - LIMIT} of 500 test images were attacked by nothing" in told


def test_certificates_at_another_radius_have_a_row_of_their_own(run: Path) -> None:
    certify(run, lambda row: row["broken_by"] is None)
    shutil.copytree(run / "certification", run / "certification-near")
    change(run / "certification-near" / "summary.json", eps=0.01)
    titles = [table.title for table in certificate_tables([read_run(run)])]
    assert titles == [f"Certified, mnist-5k, ℓ∞ ε {eps}: the first {LIMIT} test images" for eps in (0.1, 0.01)]
