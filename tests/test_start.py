"""What is wrong with a training is told before its folder holds a run, and no seed or shell stands in its way."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bpfc.bounds import UntraceableError
from bpfc.cli.subjects import of_run
from bpfc.data import Images, load
from bpfc.errors import UserError
from bpfc.methods import IBP, ManifoldMixup
from bpfc.models import lay_out
from bpfc.training import engine, start
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


def one_pixel(channels: int, classes: int, size: int) -> nn.Module:
    """BatchNorm of one value a channel and image."""
    features = nn.Sequential(nn.Conv2d(channels, 4, 7, 7), nn.AdaptiveMaxPool2d(1), nn.BatchNorm2d(4), nn.Flatten())
    return nn.Sequential(features, nn.Linear(4, classes))


class Viewing(nn.Sequential):
    """Views values as they lie, which channels_last does not bear."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self[0](images)
        return self[1](values.view(len(values), -1))


def viewing(channels: int, classes: int, size: int) -> nn.Module:
    return Viewing(nn.Conv2d(channels, 4, 7, 7), nn.Linear(4 * (size // 7) ** 2, classes))


class Drawing(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + torch.rand_like(images)


class WithTuple(Viewing):
    """Its answer in train mode has more than logits in it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return (logits, logits) if self.training else logits  # type: ignore[return-value]


class WithoutGradient(Viewing):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).detach()


class WithState(Viewing):
    """State that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def with_tuple(channels: int, classes: int, size: int) -> nn.Module:
    return WithTuple(*viewing(channels, classes, size).children())


def without_gradient(channels: int, classes: int, size: int) -> nn.Module:
    return WithoutGradient(*viewing(channels, classes, size).children())


def with_state(channels: int, classes: int, size: int) -> nn.Module:
    return WithState(*viewing(channels, classes, size).children())


class Shifting(nn.Sequential):
    """Writes into the images that it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.sub_(0.5))


def shifting(channels: int, classes: int, size: int) -> nn.Module:
    return Shifting(nn.Flatten(), nn.Linear(channels * size * size, classes))


def frozen(channels: int, classes: int, size: int) -> nn.Module:
    return viewing(channels, classes, size).requires_grad_(False)


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


def test_a_network_that_views_values_as_they_lie_trains(tmp_path: Path) -> None:
    """It is trained, validated and evaluated in the plain layout."""
    run = begin(replace(SHORT, network="test_start:viewing"), tmp_path / "run")
    subject = of_run(run, load("mnist-5k"), trusted="test_start:viewing")
    assert subject.model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert not subject.channels_last


def test_a_network_is_tried_on_images_that_it_may_write_into() -> None:
    start._try_training(shifting(1, 10, 28), load("mnist-5k").train[:1], "it")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ("with_tuple", "in train mode gives a tuple, must give logits; if they are in there, wrap it: bpfc.Logits"),
        ("without_gradient", "no gradient comes from its logits"),
        ("with_state", "_extra_state of its state is no tensor"),
        ("frozen", "none of its weights may be trained"),
    ],
)
def test_a_network_that_cannot_be_trained_is_told_before_the_run_is_begun(
    network: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"the network test_start:{network}.*{told}"):
        begin(replace(SHORT, network=f"test_start:{network}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [1_844_000_000, 2**32 - 1])
def test_a_large_seed_trains(seed: int, tmp_path: Path) -> None:
    assert len(begin(replace(SHORT, seed=seed), tmp_path / "run").log) == 1


def test_seeds_are_in_torch_s_range_and_what_they_were() -> None:
    assert engine._seed(7, 3, 2) == (7 * 1_000_003 + 3) * 10_007 + 2
    assert engine._seed(1_843_000_000, 99, 1) == (1_843_000_000 * 1_000_003 + 99) * 10_007 + 1
    for seed in (1_843_378_508, 2**32 - 1):  # the first: the last that fits, in its first epochs
        for epoch in (0, 50_000):
            torch.manual_seed(engine._seed(seed, epoch, 8))


def test_a_shell_inside_a_slurm_job_trains_without_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "4", "JOB_NAME": "train", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert len(begin(SHORT, tmp_path / "run").log) == 1


def test_what_several_processes_cannot_share_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch with an image for some of them alone, which trained on nothing, and weights without a gradient."""
    model = Viewing(nn.Conv2d(1, 4, 7, 7), nn.Linear(64, 10), nn.Linear(3, 3))
    one = load("mnist-5k").train[:1]
    start._try_training(model, one, "it")
    monkeypatch.setenv("WORLD_SIZE", "31")
    with pytest.raises(UserError, match="it: no logit hangs on its weights 2.weight"):
        start._try_training(model, one, "it")
    with pytest.raises(ValueError, match="--batch-size 30: a batch of 30 leaves some of 31 processes without an image"):
        begin(SHORT, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_of_one_image_is_refused_where_batchnorm_takes_none(tmp_path: Path) -> None:
    recipe = replace(SHORT, network="test_start:one_pixel", limit=61)
    told = "--batch-size 30: of 61 images a batch would leave one to a process, which .*one_pixel cannot train on"
    with pytest.raises(ValueError, match=rf"{told} \(Expected more than 1 value.*\); .* --limit"):
        begin(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert len(begin(replace(recipe, limit=62), tmp_path / "two").log) == 1
    assert len(begin(replace(recipe, network="m-lenet-quarter"), tmp_path / "plain").log) == 1


def test_a_try_leaves_the_network_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1).eval(), nn.Dropout(), nn.Flatten())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = Images(torch.full((61, 1, 4, 4), 9, dtype=torch.uint8), torch.zeros(61, dtype=torch.long))
    for attempt in (
        lambda: start._check_batches(SHORT, model, images),
        lambda: start._try_training(model, images[:1], "it"),
    ):
        attempt()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert [module.training for module in model.modules()] == [True, False, True, True]


def test_a_look_at_the_layout_draws_nothing_of_the_callers() -> None:
    """A network may draw in eval mode too."""
    model = nn.Sequential(nn.Dropout(), Drawing())
    before = torch.get_rng_state()
    lay_out(model, (1, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == [True, True, True]
