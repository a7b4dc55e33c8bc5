import json
import re
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import nn

import bpfc
from bpfc.__main__ import main
from bpfc.data import DataSet
from bpfc.files import read_jsonl


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bpfc", *words])
    main()


@pytest.fixture
def handed_in(trained: nn.Module, tmp_path: Path) -> list[str]:
    save_file({name: each.contiguous() for name, each in trained.state_dict().items()}, tmp_path / "w.safetensors")
    return ["--model", "conftest:small_network", "--weights", str(tmp_path / "w.safetensors"), "--data", "mnist-5k"]


def test_proofs_stand_beside_the_attacks(
    handed_in: list[str],
    trained: nn.Module,
    digits: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = [*handed_in, "--eps", "0.01", "--device", "cpu", "--out"]
    call(monkeypatch, "evaluate", *fixed, str(tmp_path / "e"), "--attacks", "pgd-10", "--limit", "30")
    capsys.readouterr()
    out = tmp_path / "c"
    more = ["--evaluation", str(tmp_path / "e"), "--curve", "--limit", "20"]
    call(monkeypatch, "certify", *fixed, str(out), *more)
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    direct = bpfc.certify(trained, digits.test.pixels[:20], digits.test.labels[:20], eps=0.01)
    assert read_jsonl(out / "certificates.jsonl") == direct.rows
    summary = json.loads((out / "summary.json").read_text())
    assert summary["certified"] == direct.summary["certified"]
    sides = summary["between"]
    assert 0 < sides["certified"] == direct.certified <= sides["not_broken"] < 1
    assert f"lies between {direct.certified:.1%} (certified) and {sides['not_broken']:.1%} (not broken)" in printed
    assert f"ε 0.01: {direct.certified:.1%} certified" in printed
    with pytest.raises(SystemExit):
        call(monkeypatch, "certify", *handed_in, "--eps", "0.02", "--out", str(out), *more)
    assert "is of something else (eps was 0.01, is 0.02)" in capsys.readouterr().err
    ledger = tmp_path / "e" / "ledger.jsonl"
    whole = ledger.read_bytes()
    for damaged, told in ((whole[:2000], "lacks"), (whole.replace(b'"index": 1,', b'"index": 9,', 1), "line 2")):
        ledger.write_bytes(damaged)  # gave a figure of fewer or other images
        with pytest.raises(SystemExit):
            call(monkeypatch, "certify", *fixed, str(out), *more)
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--eps", "0.1"], "--out: name a folder"),
        (["--out", "x"], "--eps: say the radius"),
        (["--out", "x", "--eps", "0.1", "--limit", "0"], "limit=0"),
        (["--out", "x", "--eps", "0.1", "--methods", "magic"], "'magic' must be one of"),
        (["--out", "x", "--eps", "0.1", "--evaluation", "nowhere"], "nowhere: holds no evaluation"),
    ],
)
def test_bad_options_are_named(
    words: list[str],
    told: str,
    handed_in: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "certify", *handed_in, *words)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
