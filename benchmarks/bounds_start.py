"""How training with interval bounds begins and ends, by its first weights; and what the best networks leave idle.

    python benchmarks/bounds_start.py [START …] [--epochs 4]
    python benchmarks/bounds_start.py --runs results/mnist-ibp-curve-half results/fashion-mnist-ibp-curve-20-epochs

The recipe is mnist-5k-ibp-curve but for the network, a quarter of M-LeNet's width, fewer epochs, a shorter average of
the weights, and μ, the weight of Shi's regulariser. Dense weights are PyTorch's own; Shi's have the deviation √(2π) / n
for n inputs, and go with BatchNorm (Shi et al. 2021). Idle is a neuron (a channel, over all its places) that is on for
no image: at the start of 256 clean ones, at the end anywhere in the balls of the test images, by its upper bound.
Certified is by the bounds in float32.
"""

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from common import print_machine
from torch import Tensor, nn

from bpfc.bounds import interval_margins
from bpfc.bounds.operations import Rectify
from bpfc.data import DataSet, load, to_float
from bpfc.methods import IBP
from bpfc.methods.ibp import ball_bounds
from bpfc.models import build, with_curve
from bpfc.models.shi import make_tight
from bpfc.models.sparse import make_sparse
from bpfc.training.health import TrainingError
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.run_data import data_of
from bpfc.training.start import train

STARTS: dict[str, float] = {
    "dense": 0.0,
    "shi": 0.0,
    "shi_batchnorm": 0.0,
    "shi_batchnorm_balanced": 0.5,
    "sparse": 0.0,
    "sparse_balanced": 0.5,
    "sparse_biased": 0.0,
    "sparse_positive": 0.0,
}
"""μ by the start's name."""
IMAGES = 256


def started(name: str, channels: int, classes: int, size: int) -> nn.Module:
    """A network behind the recipe's curve, with the weights of the first words of its name."""
    network = build("m-lenet-quarter", channels=channels, classes=classes, size=size)
    assert isinstance(network, nn.Sequential)
    if name.startswith("sparse"):
        make_sparse(network)
    if name.startswith("shi"):
        make_tight(network)
    layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for layer in layers:
            if name == "sparse_biased" and layer.bias is not None:
                nn.init.constant_(layer.bias, 0.1)
            if name == "sparse_positive":  # each neuron has at least one weight above 0
                rows = layer.weight.flatten(1)
                largest = rows.abs().argmax(dim=1, keepdim=True)
                rows.scatter_(1, largest, rows.gather(1, largest).abs())
    if "batchnorm" in name:
        parts: list[nn.Module] = []
        for part in network:
            parts.append(part)
            if part in layers[:-1]:
                parts.append((nn.BatchNorm2d if isinstance(part, nn.Conv2d) else nn.BatchNorm1d)(len(part.weight)))
        network = nn.Sequential(*parts)
    return with_curve(network, 0.4, 0.6)


def __getattr__(name: str) -> object:
    """Each start as a function, which is how a recipe names a network."""
    if name not in STARTS:
        raise AttributeError(name)
    return lambda channels, classes, size: started(name, channels, classes, size)


def idle(model: nn.Module, images: Tensor, eps: float) -> list[str]:
    """Of each layer of rectifiers, the units that are on nowhere in the images' balls."""
    graph, bounds = ball_bounds(model, images, eps)
    uppers = [bounds[operation.inputs[0]].upper for operation in graph.operations if isinstance(operation, Rectify)]
    off = [(upper.transpose(0, 1).flatten(1) <= 0).all(dim=1) for upper in uppers]
    return [f"{int(layer.sum())}/{len(layer)}" for layer in off]


def worst(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> tuple[float, float]:
    """The cross-entropy of the worst logits, and the share that is certified."""
    margins = interval_margins(*ball_bounds(model, images, eps), labels)
    proven = (margins.scatter(1, labels[:, None], torch.inf) > 0).all(dim=1)
    return F.cross_entropy(-margins, labels).item(), proven.float().mean().item()


@torch.no_grad()
def measure(name: str, data: DataSet, epochs: int, out: Path) -> None:
    base = RECIPES["mnist-5k-ibp-curve"][1]
    assert isinstance(base.method, IBP)
    eps, method = base.eps, replace(base.method, balance=STARTS[name])
    torch.manual_seed(base.seed)
    model = started(name, 1, 10, 28).train()
    images, labels = to_float(data.train[:IMAGES].pixels), data.train[:IMAGES].labels
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum = None  # so that the running statistics are these images', as in the first step of training
    model(images)
    model.eval()
    loss, _ = worst(model, images, labels, eps)
    print(f"{name}, μ {STARTS[name]:g}\n  start: worst cross-entropy {loss:.3g}", flush=True)
    print(f"  start: idle {' '.join(idle(model, images, 0))}", flush=True)
    if not epochs:
        return
    recipe = replace(
        replace(base, method=method, network=f"bounds_start:{name}", epochs=epochs, averaging=0.98),
        validation_attacked=200,
        ifgsm_steps=1,
    )
    try:
        with torch.enable_grad(), redirect_stdout(sys.stderr):
            run = train(recipe, out / name, device="cpu", precision="fp32")
    except TrainingError as error:
        print(f"  {str(error).partition(': the last state')[0]}")  # which went with its folder
        return
    model = run.model(data, trusted=recipe.network)
    told(model, data, eps)


@torch.no_grad()
def told(model: nn.Module, data: DataSet, eps: float) -> None:
    images, labels = to_float(data.test[:1000].pixels), data.test[:1000].labels
    clean = (model(images).argmax(dim=1) == labels).float().mean().item()
    loss, proven = worst(model, images, labels, eps)
    print(
        f"  end: clean {clean:.1%}, certified {proven:.1%}, worst cross-entropy {loss:.3g} ({len(images)} test images)"
    )
    print(f"  end: idle {' '.join(idle(model, images, eps))}", flush=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("starts", nargs="*", metavar="START", help=f"of {', '.join(STARTS)}; all unless given")
    words.add_argument("--epochs", type=int, default=4, help="0: look at the start alone")
    words.add_argument("--runs", nargs="+", type=Path, default=[], metavar="RUN", help="look at these networks alone")
    given = words.parse_args()
    torch.set_num_threads(1)
    print_machine()
    for folder in given.runs:
        run = Run(folder)
        print(f"{folder}")
        data = data_of(run, data_dir=None)
        told(run.model(data), data, run.recipe().eps)
    if not given.runs:
        data = load("mnist-5k", None)
        with tempfile.TemporaryDirectory() as out:
            for name in given.starts or STARTS:
                measure(name, data, given.epochs, Path(out))


if __name__ == "__main__":
    sys.modules["bounds_start"] = sys.modules["__main__"]
    main()
