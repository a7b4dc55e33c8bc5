"""Training under torchrun: what several processes come to is what one does."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import torchrun
from safetensors.torch import load_file
from test_training import SHORT, run, stop_after_one_epoch

from bpfc.files import read_jsonl
from bpfc.training.recipes import RECIPES
from bpfc.training.start import train


def test_two_processes_give_the_losses_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same global batch, also where it does not divide evenly (150 = 60 + 60 + 30, halves of 31 never), with the whole
    gradient clipped; without the quantiser's noise, which each process draws for itself. They go on from one's state.
    """
    changes = {"network": "m-lenet-quarter", "epochs": 2, "limit": 151, "batch_size": 61, "validation_attacked": 21}
    changes["clip_norm"] = 1
    chosen = replace(RECIPES["mnist-5k-bpfc"][1], ifgsm_steps=2, lr=0.05, **changes)
    chosen = replace(chosen, method=replace(chosen.method, noise=False))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in changes.items()]
    options += ["--ifgsm-steps=2", "--lr=0.05", "--device=cpu", "--precision=fp32", "--out", str(tmp_path / "2")]
    run(chosen, tmp_path / "1")
    stop_after_one_epoch(chosen, tmp_path / "2", monkeypatch)
    well, printed = torchrun(2, "bpfc", "train", "mnist-5k-bpfc", *options, "--method.no-noise", "--resume").result()
    assert well, printed
    rows = {processes: read_jsonl(tmp_path / processes / "log.jsonl") for processes in ("1", "2")}
    for name in ("loss", "train_accuracy", "validation_accuracy", "validation_ifgsm_accuracy"):
        assert rows["1"][1][name] == pytest.approx(rows["2"][1][name], rel=1e-3)
    one, two = (load_file(tmp_path / processes / "model.safetensors") for processes in ("1", "2"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)


NETS = """
from torch import nn

def net(channels, classes, size):
    features = nn.Sequential(nn.Conv2d(channels, 8, 5, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*features, nn.Linear(8 * 8 * 8, classes))
"""
SYNCHRONISED = """
# torch's SyncBatchNorm has kernels for GPUs alone. Here its forward is the formula, by the sums over all processes.
import torch
from torch import nn
from torch.distributed.nn.functional import all_reduce
from bpfc.__main__ import main
from bpfc.training import start

def forward(self, x):
    if not self.training:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
    x = x.double()
    sums = torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])])
    sums = all_reduce(sums)
    count, channels = sums[-1].detach(), x.shape[1]
    mean = sums[:channels] / count
    var = sums[channels:-1] / count - mean.square()
    with torch.no_grad():
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.float(), self.momentum)
        self.running_var.lerp_((var * count / (count - 1)).float(), self.momentum)
    x = (x - mean[:, None, None]) * (var + self.eps).rsqrt()[:, None, None]
    return x.float() * self.weight[:, None, None] + self.bias[:, None, None]

start.check_synchronises = lambda device: None
nn.parallel.DistributedDataParallel._passing_sync_batchnorm_handle = lambda *_: None  # refuses the CPU as well
nn.SyncBatchNorm.forward = forward
main()
"""


def test_batchnorm_of_two_processes_synchronised_is_that_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the global batch does not divide evenly (61 = 30 + 31)."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "synchronised.py").write_text(SYNCHRONISED)
    changes = {"network": "nets:net", "epochs": 2, "limit": 122, "batch_size": 61, "validation_attacked": 20}
    chosen = replace(RECIPES["mnist-5k-bpfc"][1], ifgsm_steps=2, lr=0.05, **changes)
    run(replace(chosen, method=replace(chosen.method, noise=False)), tmp_path / "1")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in changes.items()]
    options += ["--ifgsm-steps=2", "--lr=0.05", "--method.no-noise", "--device=cpu", "--precision=fp32"]
    words = ["train", "mnist-5k-bpfc", *options, "--sync-batchnorm", "--out", str(tmp_path / "2")]
    well, printed = torchrun(2, str(tmp_path / "synchronised.py"), *words).result()
    assert well, printed
    rows = {processes: read_jsonl(tmp_path / processes / "log.jsonl") for processes in ("1", "2")}
    for name in ("loss", "train_accuracy", "validation_accuracy"):
        assert rows["1"][1][name] == pytest.approx(rows["2"][1][name], rel=1e-3)
    one, two = (load_file(tmp_path / processes / "model.safetensors") for processes in ("1", "2"))
    assert "1.running_var" in one
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)  # unsynchronised: off by 2e-2


JUDGED = """
from bpfc.__main__ import main
from bpfc.training import engine
from bpfc.weights import digest

def told(fabric, recipe, model, *rest, validate=engine.validate):
    print(f"judged: {digest(dict(model.state_dict()))}")
    return validate(fabric, recipe, model, *rest)

engine.validate = told
main()
"""


@pytest.mark.parametrize("averaging", [[], ["--averaging=0.9"]], ids=["", "averaged"])
def test_all_processes_judge_the_network_of_the_first(averaging: list[str], tmp_path: Path) -> None:
    """BatchNorm's running statistics are of each process's own images, and those of the first are kept."""
    (tmp_path / "judged.py").write_text(JUDGED)
    words = ["--network=m-lenet-half-batchnorm", "--epochs=2", "--limit=64", "--batch-size=32", "--device=cpu"]
    words += ["--precision=fp32", "--validation-attacked=4", "--ifgsm-steps=1", "--out", str(tmp_path / "run")]
    well, printed = torchrun(2, str(tmp_path / "judged.py"), "train", "mnist-5k-normal", *words, *averaging).result()
    assert well, printed
    judged = [line for line in printed.splitlines() if line.startswith("judged: ")]
    assert (len(judged), len(set(judged))) == (4, 2)


def test_synchronised_batchnorm_is_refused_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--sync-batchnorm: torch synchronises BatchNorm on GPUs alone"):
        train(SHORT, tmp_path / "run", device="cpu", sync_batchnorm=True)
