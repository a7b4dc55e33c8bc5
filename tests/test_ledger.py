"""A ledger resumes by index, and is checked against its header, its data and itself when it is opened."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bpfc.files import read_json, with_checksum
from bpfc.ledger import SCHEMA, Ledger, Row, Verdict, columns, summarise, write_csv

HEADER = {"plan": ["fgsm", "pgd-5"], "eps": 0.1, "images": 6, "attack_settings": {"fgsm": "FGSM(0.1)"}}
LABELS = [0, 1, 2, 0, 1, 2]
ATTACKS = ["fgsm", "pgd-5"]


def verdict(broken: bool) -> Verdict:
    known = 0.1 if broken else None
    return Verdict(broken=broken, restart=None, step=None, linf=known, l2=known, queries=1)


def row(index: int, broken: str = "", prediction: int | None = None) -> Row:
    """Of image `index`, broken by the attack of that name."""
    guess = LABELS[index] if prediction is None else prediction
    right = guess == LABELS[index]
    return Row(
        index=index,
        label=LABELS[index],
        prediction=guess,
        broken_by=(broken or None) if right else "clean",
        attacks={name: verdict(name == broken) for name in ATTACKS} if right else {},
    )


def opened(folder: Path, **changes: Any) -> Ledger:
    return Ledger(folder, HEADER | changes, LABELS, ATTACKS)


def test_resumes_by_index(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    assert ledger.missing == list(range(6))
    ledger.append([row(4, "fgsm"), row(0), row(3, prediction=1)], ["careful"])
    again = opened(tmp_path)
    assert again.missing == [1, 2, 5]
    assert again.warnings == ["careful"]
    again.append([row(0, "fgsm"), row(1), row(2, "pgd-5"), row(5)])  # image 0 has its row already
    assert [each["index"] for each in again.rows] == list(range(6))
    assert opened(tmp_path).rows == again.rows
    assert again.rows[0]["broken_by"] is None
    assert again.missing == []


def test_a_line_that_a_kill_cut_short_is_no_row(tmp_path: Path) -> None:
    opened(tmp_path).append([row(0), row(1)])
    whole = (tmp_path / "ledger.jsonl").read_bytes()
    (tmp_path / "ledger.jsonl").write_bytes(whole + b'{"index": 2, "lab')
    assert opened(tmp_path).missing == [2, 3, 4, 5]
    assert (tmp_path / "ledger.jsonl").read_bytes() == whole
    (tmp_path / "ledger.jsonl").write_bytes(whole.replace(b"\n", b"\r\n"))  # other line ends are no damage
    assert opened(tmp_path).missing == [2, 3, 4, 5]
    (tmp_path / "ledger.jsonl").write_bytes(old := whole.replace(b"\n", b"\r"))  # it was emptied
    with pytest.raises(ValueError, match=r"ledger\.jsonl: its lines end otherwise"):
        opened(tmp_path)
    assert (tmp_path / "ledger.jsonl").read_bytes() == old


DAMAGED: list[tuple[str, Any]] = [
    ("index 6, must be from 0 to 5", {"index": 6}),
    ("index -1, must be from 0 to 5", {"index": -1}),
    ("index True", {"index": True}),
    ("a second row of image 0", {"index": 0, "label": 0, "prediction": 0}),
    ("label 2, but image 1 has 1", {"label": 2}),
    ("broken by None, but its verdicts say 'pgd-5'", {"broken_by": None}),
    ("broken by 'pgd-5', but its verdicts say 'clean'", {"prediction": 0}),
    ("a verdict that is neither true nor false", {"attacks": {"fgsm": {"broken": "false"}, "pgd-5": {"broken": True}}}),
    ("verdicts of pgd-5, where fgsm ran", {"attacks": {"pgd-5": {"broken": True}}}),
    ("verdicts of fgsm, where fgsm, pgd-5 ran", {"broken_by": None, "attacks": {"fgsm": {"broken": False}}}),
    ("not a row", {"attacks": [1, 2]}),
    ("not a row", None),
    ("not a row", "{"),
]


@pytest.mark.parametrize(("told", "damage"), DAMAGED, ids=lambda value: str(value)[:40])
def test_a_row_that_does_not_fit_is_named_by_its_line(told: str, damage: Any, tmp_path: Path) -> None:
    opened(tmp_path).append([row(0), row(2)])
    line = json.dumps({**row(1, "pgd-5"), **damage}) if isinstance(damage, dict) else damage or "null"
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=rf"ledger.jsonl, line 3: {re.escape(told)}.*choose another --out"):
        opened(tmp_path)


def test_a_cascade_s_row_ends_with_what_broke_it(tmp_path: Path) -> None:
    short = row(1, "fgsm")
    del short["attacks"]["pgd-5"]
    opened(tmp_path).append([short])
    assert opened(tmp_path).rows == [short]


def test_the_schema_is_compared(tmp_path: Path) -> None:
    opened(tmp_path).append([row(0)])
    path = tmp_path / "evaluation.json"
    header = read_json(path)
    assert header["schema"] == SCHEMA
    for other, told in ({**header, "schema": 99}, "99"), ({"eps": 0.1}, "none, as early versions"):
        path.write_text(json.dumps(other))
        with pytest.raises(ValueError, match=f"evaluation.json: of schema {told}.*writes {SCHEMA}; choose another"):
            opened(tmp_path)
    for damaged in ("{", "[]", json.dumps(with_checksum(header) | {"eps": 0.2})):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"evaluation.json: (not JSON|holds list|damaged).*choose another --out"):
            opened(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"ledger.jsonl: has rows, but no evaluation.json"):
        opened(tmp_path)


def test_another_evaluation_is_refused_by_what_differs(tmp_path: Path) -> None:
    opened(tmp_path).append([row(0)])
    other = {"fgsm": "FGSM(0.2)"}
    with pytest.raises(ValueError, match=r"\(attack_settings.fgsm was 'FGSM\(0.1\)', is 'FGSM\(0.2\)'\)"):
        opened(tmp_path, attack_settings=other)
    with pytest.raises(ValueError, match=r"mean was None, is \[0.5\]"):
        opened(tmp_path, mean=(0.5,))
    opened(tmp_path, first_logits=[1.0, -2.0])  # of an earlier version, which wrote none
    opened(tmp_path, first_logits=[1.01, -2.01])  # another machine's rounding
    for others in ([1.0, -2.1], [1.0]):
        with pytest.raises(ValueError, match=r"\(first_logits was \[1.01, -2.01\], is \["):
            opened(tmp_path, first_logits=others)
    with pytest.raises(ValueError, match="first_logits was"):
        opened(tmp_path)
    (tmp_path / "evaluation.json").unlink()
    (tmp_path / "ledger.jsonl").unlink()
    opened(tmp_path).append([row(0)])
    Ledger(tmp_path, HEADER | {"images": 7}, [*LABELS, 0], ATTACKS)  # more images go on
    with pytest.raises(ValueError, match="images was 7, is 6"):
        opened(tmp_path)


def test_an_evaluation_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Those said 0 where there is nothing."""
    opened(tmp_path, eot=0).append([row(0)], [])
    assert opened(tmp_path, eot=None).missing == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"other settings \(eot was None, is 5\)"):
        opened(tmp_path, eot=5)


def test_an_attack_that_left_no_verdict_is_no_attack_that_broke_all() -> None:
    """Names of a plan, where the rows have those of a transfer, gave 0.0 % for each."""
    rows = [row(0), row(1, "fgsm"), row(3, prediction=1)]
    assert summarise(rows, ATTACKS)["attacks"]["pgd-5"]["accuracy"] == 1 / 3 + 1 / 3
    with pytest.raises(ValueError, match="image 0: nothing broke it, but it has no verdict of square-10"):
        summarise(rows, [*ATTACKS, "square-10"])
    certified = Row(**rows[0] | {"attacks": {}, "certified_by": "interval", "margin_lower": 0.1})  # meets no attack
    assert summarise([certified], ATTACKS)["attacks"]["fgsm"]["accuracy"] == 1
    cascade = Row(**rows[1] | {"attacks": {"fgsm": verdict(True)}})  # what broke it may have been the last
    assert summarise([cascade], ATTACKS)["attacks"]["pgd-5"]["accuracy"] == 0


def test_a_header_names_the_attacks_as_the_rows_do() -> None:
    assert columns(HEADER) == columns({"attacks": ATTACKS}) == ATTACKS  # the latter in versions before 3
    twice = ["fgsm@a", "pgd-5@a", "fgsm@b", "pgd-5@b"]
    assert columns(HEADER | {"sources_sha256": {"a": "0", "b": "1"}}) == twice
    with pytest.raises(TypeError, match="no list"):
        columns({"plan": "new"})


def test_the_table_has_all_that_the_rows_know(tmp_path: Path) -> None:
    certified = Row(**row(0) | {"attacks": {}, "certified_by": "interval", "margin_lower": 0.1})
    blind = Row(**row(1, "fgsm") | {"gradient": "zero", "certified_by": None, "margin_lower": None})
    write_csv(tmp_path / "ledger.csv", [certified, blind], ATTACKS)
    with (tmp_path / "ledger.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["certified_by"], first["margin_lower"], first["gradient"]) == ("interval", "0.1", "")
    assert (second["certified_by"], second["gradient"], second["fgsm.broken"]) == ("", "zero", "True")
    write_csv(tmp_path / "ledger.csv", [row(0)], ATTACKS)
    assert "certified_by" not in (tmp_path / "ledger.csv").read_text()
