"""The commands of docs/own-data.md, in their order, on real digits as pictures."""

import shlex
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from PIL import Image
from processes import torchrun
from test_docs import ROOT, call_bpfc, commands

from bpfc.data import DataSet
from bpfc.files import read_json, read_jsonl

SHORT = {
    "train": "--epochs 1 --device cpu --precision fp32",
    "evaluate": "--limit 12 --batch-size 4 --device cpu --precision fp32",
    "audit": "--limit 4 --device cpu",
    "export": "",
}
"""What makes a verb quick."""


@pytest.fixture
def pictures(tmp_path: Path, digits: DataSet, monkeypatch: pytest.MonkeyPatch) -> Path:
    """300 digits to train on and 30 to test on, 28×28, grey."""
    monkeypatch.chdir(tmp_path)
    for part, images, count in (("train", digits.train, 300), ("val", digits.test, 30)):
        for number in range(count):
            folder = tmp_path / "my/pictures" / part / str(int(images.labels[number]))
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number : number + 1].pixels[0, 0].numpy()).save(folder / f"{number}.png")
    return tmp_path


def test_a_stranger_trains_evaluates_audits_and_exports(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []
    for program, *words in commands(ROOT / "docs/own-data.md"):
        if "--nnodes" in words:  # there is no second machine
            continue
        at = words.index("bpfc") + 1 if program == "torchrun" else 0
        verb = words[at]
        words += shlex.split(SHORT[verb])
        ran.append(verb)
        if program == "torchrun":
            count = int(words[words.index("--nproc-per-node") + 1])
            well, told = torchrun(count, *words[at - 1 :], PYTHONWARNINGS="ignore").result()
            assert well, told
            assert "worst case" in told
            continue
        with suppress(SystemExit) if verb == "audit" else nullcontext():  # its verdict is its exit status
            call_bpfc(words, monkeypatch)
    assert ran == ["train", "evaluate", "audit", "export", "export"]
    shown = capsys.readouterr().out
    assert "300 images to train on, 30 of them held out to watch; 30 to test on; 10 classes, 1×28×28, uint8" in shown
    run_folder = pictures / "runs/mine"
    assert [row["index"] for row in read_jsonl(run_folder / "evaluation/ledger.jsonl")] == list(range(12))
    assert read_json(run_folder / "evaluation/summary.json")["provenance"]["hardware"]["processes"] == 2
    assert read_json(run_folder / "audit-quick/audit.json")["images"] == 4
    card = (run_folder / "export-hub/README.md").read_text()
    assert "12 test images, ℓ∞ ε 0.1, each attack on what those before it left:" in card
    assert "`bpfc audit` (audit-quick):" in card
    assert (run_folder / "export-onnx/model.onnx").stat().st_size > 10_000
