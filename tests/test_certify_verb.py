import json
import re
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import nn

import bpfc
import bpfc.certification
from bpfc.__main__ import main
from bpfc.certification import certify_block
from bpfc.data import DataSet
from bpfc.files import owned, read_jsonl


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
    rows = read_jsonl(out / "certificates.jsonl")
    radii = bpfc.certification.certified_radii(trained, digits.test.pixels[:20], digits.test.labels[:20])
    assert [row.pop("radius") for row in rows] == radii.tolist()
    assert rows == direct.rows
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


def test_a_killed_certification_goes_on(
    handed_in: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c"
    words = ["certify", *handed_in, "--eps", "0.01", "--device", "cpu", "--limit", "12", "--batch-size", "4", "--curve"]
    words += ["--methods", "interval"]
    call(monkeypatch, *words, "--out", str(out))
    rows, summary = (out / "certificates.jsonl").read_bytes(), json.loads((out / "summary.json").read_text())
    lines = rows.splitlines(keepends=True)
    for left in (b"", b"".join(lines[:4]), b"".join(lines[:5]) + lines[5][:20], rows):
        (out / "certificates.jsonl").write_bytes(left)
        seen = []
        monkeypatch.setattr(
            "bpfc.certification.recorded.certify_block",
            lambda *given, seen=seen: seen.extend(given[3]) or certify_block(*given),
        )
        call(monkeypatch, *words, "--out", str(out))
        assert seen == list(range(left.count(b"\n"), 12))
        assert (out / "certificates.jsonl").read_bytes() == rows
        again = json.loads((out / "summary.json").read_text())
        assert {**again, "provenance": None} == {**summary, "provenance": None}
    call(monkeypatch, *words, "--out", str(out), "--limit", "14")  # more images go on
    assert (out / "certificates.jsonl").read_bytes().startswith(rows)
    capsys.readouterr()


DAMAGED = [
    ('"index": 1', '"index": 0', "second row of image 0"),
    ('"prediction": ', '"prediction": 1', "something proven of a prediction that is wrong"),
    ('"certified_by": "interval"', '"certified_by": "magic"', "certified by 'magic'"),
    ('"margin_lower": ', '"margin_lower": -', "with a margin of -"),
    ('"margin_lower": ', '"margin_lower": NaN, "x": ', "unknown entry 'x'"),
    ('"certified_by"', '"radius": 0.1, "certified_by"', "radius 0.1, must be none"),
]


def test_a_certification_is_checked_when_it_is_opened(
    handed_in: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["certify", *handed_in, "--device", "cpu", "--limit", "4", "--out", str(tmp_path / "c")]

    def error(*more: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            call(monkeypatch, *words, *more)
        assert stopped.value.code == 2
        return capsys.readouterr().err

    call(monkeypatch, *words, "--eps", "0.01")
    file, header = tmp_path / "c" / "certificates.jsonl", tmp_path / "c" / "certification.json"
    whole = file.read_bytes()
    for more, told in (
        (["--eps", "0.02"], "holds certificates of other settings (eps was 0.01, is 0.02)"),
        (["--eps", "0.01", "--curve"], "radii was False, is True"),
        (["--eps", "0.01", "--methods", "interval"], "methods was ['interval', 'crown-ibp']"),
        (["--eps", "0.01", "--limit", "3"], "images was 4, is 3"),
        (["--eps", "0.01", "--mean", "0.5", "--std", "0.5"], "mean was None, is [0.5]"),
    ):
        assert told in error(*more)
    flipped = bytearray(whole)
    flipped[40] ^= 1
    file.write_bytes(flipped)
    assert "certificates.jsonl, line 1" in error("--eps", "0.01")
    lines = read_jsonl(file) if file.write_bytes(whole) else []
    for old, new, told in DAMAGED:  # as earlier versions or somebody's editor write them: without a checksum
        edited = "".join(json.dumps(row) + "\n" for row in lines)
        file.write_text(edited.replace(old, new, 1) if old[-1] != "1" else edited.replace(old, new))
        assert told in error("--eps", "0.01")
    file.write_bytes(whole)
    kept = header.read_bytes()
    header.unlink()
    assert "has rows, but no certification.json says of what" in error("--eps", "0.01")
    for damaged in ("", "null", "[]", "{}", "[" * 100_000):
        header.write_text(damaged)
        assert "certification.json" in error("--eps", "0.01")
    header.write_bytes(kept)
    with owned(tmp_path / "c"):
        assert "another process is at work there" in error("--eps", "0.01")
    call(monkeypatch, *words, "--eps", "0.01")
