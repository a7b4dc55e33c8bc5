import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import nn

import bpfc.auditing
from bpfc.__main__ import main
from bpfc.auditing import Budget
from bpfc.auditing.kept import keep, open_kept
from bpfc.cli.audit_clock import TimeLeft
from bpfc.data import DataSet
from bpfc.files import read_jsonl, write_jsonl

TINY = Budget(20, 10, (1, 2), 50, 2, (1e-3,), 1, (2, 4))


def status(monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    """The exit status of `bpfc WORDS`."""
    monkeypatch.setattr(sys, "argv", ["bpfc", *words])
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def handed_in(trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    save_file({name: each.contiguous() for name, each in trained.state_dict().items()}, tmp_path / "w.safetensors")
    monkeypatch.setattr(bpfc.auditing, "QUICK", TINY)
    named = ["--model", "conftest:small_network", "--weights", str(tmp_path / "w.safetensors"), "--data", "mnist-5k"]
    return ["audit", *named, "--quick", "--device", "cpu", "--out", str(tmp_path / "a")]


def test_the_exit_status_is_the_verdict(
    handed_in: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, *handed_in, "--eps", "0.1", "--claim", "30") == 0
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "attacks, 30.0% is claimed." in printed
    assert "20 images, ℓ∞ ε 0.1" in printed
    found = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert (found["schema"], found["verdict"], found["claim"], found["exit_status"]) == (2, "stands", 0.3, 0)
    assert [each["id"] for each in found["findings"]] == [f"C{number}" for number in range(1, 19)]
    assert {each["id"] for each in found["findings"] if each["outcome"] == "not run"} == {"C15", "C16"}
    assert found["provenance"]["command"].startswith("bpfc audit --model")

    drawn = sorted(path.name for path in (tmp_path / "a").glob("*.svg"))
    assert drawn == [
        *(f"accuracy-over-{what}.svg" for what in ("eps", "restarts", "steps")),
        "loss-along-attack.svg",
        "loss-surface.svg",
    ]
    for name in drawn:
        assert ElementTree.parse(tmp_path / "a" / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"

    # The same folder: what was measured stays, another claim is another verdict.
    assert status(monkeypatch, *handed_in, "--eps", "0.1", "--claim", "99.9") == 1
    assert "attacks, 99.9% is claimed." in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_a_flag_that_nothing_settles_is_status_3(
    handed_in: list[str], tmp_path: Path, digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = digits.test.pixels[:20].numpy().astype(np.float32) / 255**2
    np.savez(tmp_path / "dark.npz", images=dark, labels=digits.test.labels[:20].numpy())
    handed_in[handed_in.index("mnist-5k")] = str(tmp_path / "dark.npz")
    assert status(monkeypatch, *handed_in, "--eps", "0.00001") == 3
    found = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert (found["verdict"], found["flags"]) == ("open", ["C17"])
    assert "C17 flagged and no attack settled it" in found["sentence"]


def test_certificates_answer_for_a_flag_that_nothing_settles(
    handed_in: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bpfc.auditing.checks.steadiness.LIMIT", -1.0)  # so that C12 flags any network
    proofs = tmp_path / "proofs"
    asked = [*handed_in, "--claim", "20"]
    assert status(monkeypatch, *asked, "--eps", "0.01") == 3
    with_proofs = [*asked, "--certificates", str(proofs)]
    assert status(monkeypatch, *with_proofs, "--eps", "0.01") == 2
    assert "proofs: holds no certification" in capsys.readouterr().err
    certify = ["certify", *handed_in[1:7], "--eps", "0.01", "--device", "cpu", "--out", str(proofs)]
    assert status(monkeypatch, *certify, "--limit", "10") == 0
    assert status(monkeypatch, *with_proofs, "--eps", "0.01") == 2
    assert "lack 10 images, the first of them 10" in capsys.readouterr().err
    assert status(monkeypatch, *certify, "--limit", "20") == 0
    assert status(monkeypatch, *with_proofs, "--eps", "0.1") == 2
    assert "is of something else (eps was 0.01, is 0.1)" in " ".join(capsys.readouterr().err.split())
    assert status(monkeypatch, *with_proofs, "--eps", "0.01") == 0
    found = json.loads((tmp_path / "a" / "audit.json").read_text())
    certified = sum(row["certified_by"] is not None for row in read_jsonl(proofs / "certificates.jsonl"))
    assert (found["verdict"], found["flags"], found["certified"]) == ("stands", ["C12"], certified / 20)
    assert "C12 flagged and no attack settled it, but what is proven is enough." in found["sentence"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eps", "0.1", "--claim", "101"], "claim=101.0: must be"),
        ([], "--eps: say the radius"),
        (["--eps", "0.1", "--k", "8"], "k=8: must be a whole number (int) from 1 to bits - 1 = 7"),
    ],
)
def test_what_cannot_be_is_an_error(
    words: list[str],
    message: str,
    handed_in: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bpfc.auditing.audit", None)  # it is told before any attack
    assert status(monkeypatch, *handed_in, *words) == 2
    assert message in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_is_no_verdict(
    handed_in: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(bpfc.auditing, "audit", fails)
    assert status(monkeypatch, *handed_in, "--eps", "0.1") == 2  # not Python's 1: falls, or masked
    assert "Traceback" in (told := capsys.readouterr().err)
    assert "RuntimeError: out of memory" in told


def test_time_left_follows_from_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("bpfc.cli.audit_clock.time.perf_counter", lambda: now[0])

    def told(at: float, text: str, clock: TimeLeft) -> float | None:
        now[0] = at
        return clock.after(text)

    clock = TimeLeft()
    assert told(1, "fgsm: 3 of 5 images broken", clock) is None
    assert told(25, "C3 more restarts: pass", clock) == pytest.approx(75)
    assert told(46, "C4 accuracy over ε: pass", clock) == pytest.approx(54)
    assert told(100, "C18 controls beside the model: pass", clock) == 0
    now[0] = 0
    resumed = TimeLeft()  # C1 to C4 are in the folder
    for check in ("C1", "C2", "C3", "C4"):
        assert told(0.1, f"{check} something: pass", resumed) is None
    assert told(9.1, "C7 scale of the logits: pass", resumed) == pytest.approx(45)


def test_what_an_audit_keeps_is_checked_and_held_once(tmp_path: Path) -> None:
    line = {"probe": "fgsm", "settings": "FGSM(0.1) x1 on 3", "eps": 0.1, "found": [[2, 0, 1]], "seconds": 0.1}
    assert open_kept(tmp_path, {"eps": 0.1}) == {}
    keep(tmp_path, line)
    keep(tmp_path, line)
    assert open_kept(tmp_path, {"eps": 0.1}) == {"fgsm": line}
    assert read_jsonl(tmp_path / "measured.jsonl") == [line]
    with pytest.raises(ValueError, match=r"another --out|eps was 0.1, is 0.2"):
        open_kept(tmp_path, {"eps": 0.2})
    (tmp_path / "measured.json").rename(tmp_path / "away.json")
    with pytest.raises(ValueError, match=r"measured\.jsonl: without measured\.json beside it"):
        open_kept(tmp_path, {"eps": 0.1})
    (tmp_path / "away.json").rename(tmp_path / "measured.json")
    odd = ({}, line | {"probe": []}, line | {"found": 5}, line | {"found": [[1, 0, 1], [1, 0, 2]]}, line | {"x": 1})
    for other in odd:
        write_jsonl(tmp_path / "measured.jsonl", [line, other])
        with pytest.raises(ValueError, match=r"measured.jsonl, line 2: .*another --out"):
            open_kept(tmp_path, {"eps": 0.1})
