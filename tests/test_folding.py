"""Networks that are trained with BatchNorm, merged for bounds and folded for keeps."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bpfc.bounds import interval_bounds, propagate, trace
from bpfc.bounds.merging import merged
from bpfc.bounds.operations import Scale
from bpfc.cli.export import Export
from bpfc.cli.export import run as verb
from bpfc.data import DataSet, to_float
from bpfc.models import build, folded, from_folder, kept_as
from bpfc.models.folding import KEPT_AS
from bpfc.models.shi import make_tight
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.start import train


def made(name: str) -> nn.Module:
    return build(name, channels=1, classes=10, size=28)


def restless(network: nn.Module) -> nn.Module:
    """The network with all that BatchNorm has away from what it begins with; one channel in two is turned round."""
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            with torch.no_grad():
                layer.weight.normal_()
                layer.bias.normal_()
    return network.eval()


@pytest.mark.parametrize("name", KEPT_AS)
def test_folded_it_is_the_paper_s_network_and_answers_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = restless(made(f"{name}@0.3-0.7")).double()
    before = copy.deepcopy(network.state_dict())
    plain = made(kept_as(f"{name}@0.3-0.7")).double().eval()
    plain.load_state_dict(folded(network).state_dict())
    images = torch.rand(8, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(plain(images), network(images))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    plain.load_state_dict(folded(shared).state_dict())
    torch.testing.assert_close(plain(images), network(images))


def test_most_networks_are_kept_as_they_are() -> None:
    assert [kept_as(name) for name in ("m-lenet", "resnet-18", "m-lenet-sparse@0.1-0.6", "mine:net")] == [
        "m-lenet",
        "resnet-18",
        "m-lenet-sparse@0.1-0.6",
        "mine:net",
    ]


def test_merged_bounds_are_the_same() -> None:
    torch.manual_seed(0)
    network = restless(made("m-lenet-half-batchnorm")).double()
    plain = trace(network, (1, 28, 28))
    fewer = merged(plain)
    assert len(plain.operations) - len(fewer.operations) == 4
    lower = torch.rand(4, 1, 28, 28, dtype=torch.float64)
    for ours, theirs in zip(
        interval_bounds(fewer, lower, lower + 0.1), interval_bounds(plain, lower, lower + 0.1), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        network[1].weight.mul_(2)  # read where it lives
    torch.testing.assert_close(propagate(fewer, lower, lower)[-1].lower, network(lower))


class Shared(nn.Module):
    """BatchNorm of a value that is read again, and a scale of places, not channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.places = nn.Parameter(torch.randn(1, 2, 4, 4))
        self.last = nn.Conv2d(2, 2, 3)
        self.linear = nn.Linear(32, 3)

    def forward(self, images: Tensor) -> Tensor:
        first = self.convolution(images)
        placed = self.last(self.norm(first) + first) * self.places
        return self.linear(placed.flatten(1))


def test_what_others_read_and_what_is_of_places_is_not_merged() -> None:
    torch.manual_seed(0)
    network = restless(Shared()).double()
    plain = trace(network, (1, 8, 8))
    fewer = merged(plain)
    assert sum(isinstance(operation, Scale) for operation in fewer.operations) == 2
    images = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(propagate(fewer, images, images)[-1].lower, network(images))


@pytest.mark.parametrize("inputs", [(1, 28, 28), (32, 14, 14)])
def test_a_fresh_layer_keeps_an_interval_s_width(inputs: tuple[int, int, int]) -> None:
    """On average, away from the border; through the rectifier half of it, as Shi et al. have it."""
    torch.manual_seed(0)
    layer = make_tight(nn.Conv2d(inputs[0], 64, 5)).double()
    lower = torch.rand(2, *inputs, dtype=torch.float64)
    bounds = propagate(trace(nn.Sequential(layer, nn.Flatten()), inputs), lower, lower + 0.1)[1]
    assert (bounds.upper - bounds.lower).mean().item() == pytest.approx(0.2, rel=0.1)


def test_a_run_keeps_m_lenet_s_weights_and_others_read_them_as_such(tmp_path: Path, digits: DataSet) -> None:
    recipe = replace(
        RECIPES["mnist-5k-ibp"][1],
        network="m-lenet-half-batchnorm@0.4-0.6",
        epochs=1,
        limit=64,
        validation=20,
        validation_attacked=10,
        ifgsm_steps=1,
        averaging=0.5,
        weights="float32",
    )
    run = Run(train(recipe, tmp_path / "run", device="cpu", precision="fp32").folder)
    kept, plain = load_file(run.weights), made("m-lenet-half@0.4-0.6")
    assert {name: tensor.shape for name, tensor in kept.items()} == {
        name: tensor.shape for name, tensor in plain.state_dict().items()
    }
    state = run.load()
    assert state is not None
    trained = made(recipe.network)
    averaged = {name.removeprefix("module."): value for name, value in state.averaged.items() if "module." in name}
    trained.load_state_dict(averaged)
    images = to_float(digits.test.pixels[:20])
    logits = trained.eval()(images)
    assert logits.std() > 1e-4
    torch.testing.assert_close(run.model(digits)(images), logits, atol=1e-6, rtol=1e-3)
    verb(Export(run.folder, "hub", out=tmp_path / "hub"))
    torch.testing.assert_close(from_folder(tmp_path / "hub")(images), run.model(digits)(images))


def test_a_batch_of_one_image_is_refused_before_any_work(tmp_path: Path) -> None:
    recipe = replace(RECIPES["mnist-5k-ibp"][1], network="m-lenet-half-batchnorm", limit=65)
    with pytest.raises(ValueError, match="--batch-size 32: of 65 images a batch would leave one to a process"):
        train(recipe, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_bounds_are_no_method_for_batchnorm_of_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bpfc.training.start.check_synchronises", lambda device: None)  # as on a GPU
    with pytest.raises(ValueError, match="--sync-batchnorm: ibp takes BatchNorm by the images of one process"):
        train(RECIPES["mnist-5k-ibp"][1], tmp_path / "run", device="cpu", sync_batchnorm=True)
