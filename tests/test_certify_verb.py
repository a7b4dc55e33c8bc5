import json
import re
import sys
from pathlib import Path

import conftest
import pytest
from safetensors.torch import save_file
from torch import nn

import bpfc
import bpfc.certification
from bpfc.__main__ import main
from bpfc.certification import certify_block
from bpfc.data import DataSet, Images
from bpfc.evaluation import Context, ThreatModel, blocks, parse, run_block
from bpfc.evaluation.engine import Proof
from bpfc.files import owned, read_json, read_jsonl


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
    monkeypatch.setattr("conftest.another", conftest.small_network, raising=False)  # the same weights, and other code
    with pytest.raises(SystemExit):
        another = ["conftest:another" if word == "conftest:small_network" else word for word in fixed]
        call(monkeypatch, "certify", *another, str(out), *more)
    told = "(model was 'conftest:small_network', is 'conftest:another')"
    assert f"is of something else {told}" in capsys.readouterr().err
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
    rows, summary = (out / "certificates.jsonl").read_bytes(), read_json(out / "summary.json")
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
        again = read_json(out / "summary.json")
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


def test_what_is_certified_meets_no_attack(
    handed_in: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = [*handed_in, "--eps", "0.01", "--device", "cpu", "--limit", "30", "--out"]
    call(monkeypatch, "certify", *fixed, str(tmp_path / "c"))
    proven = {row["index"]: row for row in read_jsonl(tmp_path / "c" / "certificates.jsonl")}
    for name, more in (("plain", []), ("spared", ["--certificates", str(tmp_path / "c")])):
        capsys.readouterr()
        call(monkeypatch, "evaluate", *fixed, str(tmp_path / name), "--attacks", "fgsm,pgd-10", *more)
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    plain, spared = (read_jsonl(tmp_path / name / "ledger.jsonl") for name in ("plain", "spared"))
    for before, row in zip(plain, spared, strict=True):
        proof = proven[row["index"]]
        assert (row.pop("certified_by"), row.pop("margin_lower")) == (proof["certified_by"], proof["margin_lower"])
        if proof["certified_by"] is None:
            assert row == before
        else:
            assert (row["attacks"], row["broken_by"], before["broken_by"]) == ({}, None, None)
    certified = sum(each["certified_by"] is not None for each in proven.values())
    assert 0 < certified < 30
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("plain", "spared")]
    assert summaries[0]["attacks"] == summaries[1]["attacks"]
    assert summaries[1]["certificates"] == ["interval", "crown-ibp"]
    robust, sides = summaries[0]["worst_case"]["accuracy"], summaries[1]["between"]
    assert (sides["certified"], sides["not_broken"]) == (certified / 30, robust)
    assert sides["open"] == pytest.approx(robust - certified / 30)
    assert "between" not in summaries[0]
    assert f"lies between {certified / 30:.1%} (certified) and {robust:.1%} (not broken)" in printed
    # A killed one goes on, and what a row says is checked when it is read.
    ledger = tmp_path / "spared" / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(b"".join(whole.splitlines(keepends=True)[:7]))
    again = ["evaluate", *fixed, str(tmp_path / "spared"), "--attacks", "fgsm,pgd-10"]
    call(monkeypatch, *again, "--certificates", str(tmp_path / "c"))
    assert ledger.read_bytes() == whole


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--eps", "0.02"], "is of something else (eps was 0.01, is 0.02)"),
        (["--eps", "0.01", "--limit", "9"], "lack 4 images, the first of them 5"),
        (["--eps", "0.01", "--norm", "l2", "--attacks", "pgd-2"], "hold for ℓ∞"),
        (["--eps", "0.01", "--limit", "5", "--certificates", "nowhere"], "nowhere: holds no certification"),
    ],
)
def test_certificates_of_something_else_are_refused(
    words: list[str],
    told: str,
    handed_in: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--device", "cpu", "--limit", "5", "--methods", "interval", "--out", "c"]
    call(monkeypatch, "certify", *handed_in, "--eps", "0.01", *few)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "evaluate", *handed_in, "--out", "e", "--certificates", "c", *words)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_certificates_of_other_code_under_the_same_name_are_refused(
    handed_in: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--eps", "0.01", "--device", "cpu", "--limit", "5", "--out"]
    call(monkeypatch, "certify", *handed_in, *few, str(tmp_path / "c"), "--methods", "interval")

    network = nn.Sequential(*conftest.small_network().children())
    network[1] = nn.Sigmoid()  # the same weights, and other code
    monkeypatch.setattr("conftest.small_network", lambda: network)
    with pytest.raises(SystemExit):
        call(monkeypatch, "evaluate", *handed_in, *few, str(tmp_path / "e"), "--certificates", str(tmp_path / "c"))
    assert "is of something else (its logits of the first image were others" in capsys.readouterr().err


def test_certificates_that_contradict_the_model_are_an_error(trained: nn.Module, digits: DataSet) -> None:
    images, labels = digits.test.pixels[:8], (digits.test.labels[:8] + 1) % 10
    (block,) = blocks(Images(images, labels), range(8), 8)
    plan = parse("fgsm", Context(ThreatModel("linf", 0.01), channels=1))
    with pytest.raises(bpfc.certification.ContradictionError, match="image 0 is certified by magic, but misclassified"):
        run_block(trained, block, plan, proofs={0: Proof("magic", 1.0)})
