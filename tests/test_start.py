"""What is wrong with a training is told before its folder holds a run, and no seed or shell stands in its way."""

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from bpfc.bounds import UntraceableError
from bpfc.methods import IBP, ManifoldMixup
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.start import train

SHORT = replace(
    RECIPES["mnist-5k-normal"][1],
    network="m-lenet-quarter",
    epochs=1,
    limit=60,
    batch_size=30,
    validation_attacked=5,
    ifgsm_steps=1,
)


def begin(recipe: Recipe, out: Path) -> Run:
    return train(recipe, out, device="cpu", precision="fp32")


def softplus(channels: int, classes: int, size: int) -> nn.Module:
    """No bound is known for it."""
    return nn.Sequential(nn.Flatten(), nn.Softplus(), nn.Linear(channels * size**2, classes))


def test_what_the_network_lacks_for_the_method_is_told_before_the_run_is_begun(tmp_path: Path) -> None:
    """Else the run's folder would refuse the same command with the mistake mended."""
    out = tmp_path / "run"
    with pytest.raises(ValueError, match="layers: the model has no 'block9'; it has "):
        begin(replace(SHORT, method=ManifoldMixup(layers=("images", "block9"))), out)
    with pytest.raises(UntraceableError, match="Softplus"):
        begin(replace(SHORT, network="test_start:softplus", method=IBP()), out)
    assert not out.exists()
