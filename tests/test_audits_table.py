"""Tables of audits: what one said, and how often they were right."""

import json
from pathlib import Path
from typing import Any

from bpfc.report.audits import audit, confusion
from bpfc.report.figures import Results


def row(case: str, seed: int, **more: Any) -> dict[str, Any]:
    plain = {
        "honest": False,
        "verdict": "masked",
        "right": True,
        "clean": 1.0,
        "claim": 0.9,
        "robust": 0.5,
        "known": 0.5,
    }
    return {"data": "mnist", "case": case, "seed": seed, "flags": {"C5": "lower", "C12": "open"}, **plain, **more}


def test_a_control_is_a_row_with_a_value_for_each_seed(tmp_path: Path) -> None:
    assert confusion(Results(tmp_path)) == "Not run yet."
    rows = [
        row("rounding", 0),
        row("rounding", 1, robust=0.52, flags={"C12": "open"}),
        row("plain", 0, honest=True, verdict="stands", flags={}),
        row("plain", 1, honest=True, verdict="open", flags={"C3": "open"}, right=False),
    ]
    (tmp_path / "confusion").mkdir()
    (tmp_path / "confusion" / "summary.json").write_text(json.dumps({"images": 50, "rows": rows}))
    made = " ".join(confusion(Results(tmp_path)).split())
    assert made.startswith("| MNIST | hides |")
    assert "| rounding | yes | masked | 100, 100 | 90, 90 | 50, 52 | 50, 50 | C12 | 2/2 |" in made
    assert "| plain | no | stands, open | 100, 100 | 90, 90 | 50, 50 | 50, 50 | | 1/2 |" in made
    assert "Of 2 that hide gradients, 0 are missed, and 0 are called so with a figure more than two points" in made
    assert "Of 2 that hide nothing, 1 are called otherwise." in made
    assert "seeds 0, 1, of which the thresholds saw 0" in made


def test_an_audit_is_shown_as_the_terminal_shows_it(tmp_path: Path) -> None:
    finding = {"id": "C8", "title": "zero gradients", "outcome": "flag", "settled": "lower", "measured": "all of them"}
    hardware = {"device": "a CPU", "threads": 2}
    found = {
        "findings": [finding, finding | {"id": "C14", "outcome": "pass", "settled": None}],
        "sentence": "masked: so it is.",
        "data": "mnist",
        "images": 200,
        "exit_status": 1,
        "seconds": 90,
        "provenance": {"command": "bpfc audit x", "hardware": hardware},
    }
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "audit.json").write_text(json.dumps(found))
    made = audit(Results(tmp_path), "a")
    assert made.splitlines()[:3] == [
        "```text",
        "$ bpfc audit x",
        "C8  zero gradients            flag, lower    all of them",
    ]
    assert "C14 zero gradients            pass           all of them" in made
    assert made.endswith(
        "masked: so it is.\n```\n\n"
        "The first 200 test images. Exit status 1, after 1.5 minutes on 2 threads of a CPU. From `results/a`."
    )
    found["provenance"] = {"command": f"bpfc audit x{' --a b' * 20}", "hardware": hardware}
    (tmp_path / "a" / "audit.json").write_text(json.dumps(found))
    first, second = audit(Results(tmp_path), "a").splitlines()[1:3]
    assert len(first) <= 120
    assert first.endswith(" --a b \\")
    assert f"{first.removesuffix(' ' + chr(92))} {second.strip()}" == f"$ {found['provenance']['command']}"
