"""The loops in examples/: each trains, takes at most ten lines for BPFC, and has its normalisation inside."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from conftest import small_network
from torch import nn

from bpfc.models import NETWORKS, Normalise

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = ("plain", "lightning_module", "hugging_face_trainer", "timm_style")


def test_every_example_is_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(EXAMPLES)


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setitem(NETWORKS, "m-lenet-quarter", lambda *_: small_network())  # bfloat16 is slow on many a CPU
    example = importlib.import_module(name)
    model = example.main(epochs=2, count=1_000)
    found = importlib.import_module("plain").attack(model, 60)
    for module in ("plain", name):
        sys.modules.pop(module, None)
    assert found.clean > 0.3  # ten classes: it learns
    assert isinstance(model, nn.Sequential)
    assert isinstance(model[0], Normalise)
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_takes_at_most_ten_lines_for_it(name: str) -> None:
    lines = (FOLDER / f"{name}.py").read_text().splitlines()
    assert 3 <= sum("# BPFC" in line for line in lines) <= 10
    ours = [
        line for line in lines if re.search(r"^import bpfc|\bbpfc\.(BPFC|Logits)\b|\bBPFCTrainer|\bNormalise\b", line)
    ]
    assert all("# BPFC" in line for line in ours)  # none is left unmarked
