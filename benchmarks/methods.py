"""Seconds an epoch of each training method, relative to normal training: same network, machine and run.

    python benchmarks/methods.py [DATA]

DATA is fashion-mnist (M-LeNet, batch 64) unless given, or cifar-10 (ResNet-18, batch 128). The methods take turns, a
step each, so that a busy moment of the machine hits all; an epoch is the median step times the steps of the recipe's
epoch. Random images: what they show costs nothing. Prints a table and draws docs/methods.png beside the paper's claim
that BPFC is cheaper than RSS-AT and PGD-AT.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import torch
from common import medians, print_machine

from bpfc.machine import pick_device, resolve
from bpfc.models import build
from bpfc.training.engine import TrainingStep
from bpfc.training.recipes import RECIPES

ROUNDS = 7
TRAINING_IMAGES = {"fashion-mnist": 50_000, "mnist": 50_000, "cifar-10": 40_000}


def make_step(name: str) -> Callable[[], None]:
    """A training step of the recipe on a fixed random batch."""
    recipe = RECIPES[name][1]
    channels, size = (3, 32) if recipe.data == "cifar-10" else (1, 28)
    device = pick_device("auto")
    torch.manual_seed(0)
    model = build(recipe.network, channels=channels, classes=10, size=size).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(recipe.batch_size, channels, size, size, device=device)
    labels = torch.randint(0, 10, (recipe.batch_size,), device=device)
    loss_of = TrainingStep(model, recipe.method, resolve("auto", device))
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=recipe.momentum)

    def step() -> None:
        loss_of(images, labels)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    print_machine()
    data = sys.argv[1] if len(sys.argv) > 1 else "fashion-mnist"
    names = [name for name in RECIPES if name.startswith(f"{data}-")]
    seconds = medians({name: make_step(name) for name in names}, rounds=ROUNDS)
    steps = math.ceil(TRAINING_IMAGES[data] / RECIPES[names[0]][1].batch_size)
    normal = seconds[f"{data}-normal"]
    print(f"{'method':26} {'seconds an epoch':>16} {'times normal':>13}")
    for name in sorted(names, key=lambda name: seconds[name]):
        print(f"{name.removeprefix(data + '-'):26} {steps * seconds[name]:16.1f} {seconds[name] / normal:13.2f}")
    draw({name.removeprefix(f"{data}-"): seconds[name] / normal for name in names}, data)


def draw(ratios: dict[str, float], data: str) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot

    names = sorted(ratios, key=lambda name: -ratios[name])
    colours = ["#c44e52" if "at" in name.split("-") or name == "trades" else "#4c72b0" for name in names]
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    bars = axes.barh(names, [ratios[name] for name in names], color=colours)
    axes.bar_label(bars, [f"{ratios[name]:.1f}" for name in names], padding=3)
    axes.set_xscale("log")
    axes.set_xticks(ticks := [1, 2, 5, 10, 20, 50], [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.8, max(ratios.values()) * 1.6)
    axes.set_xlabel("seconds an epoch, normal training = 1")
    axes.set_title(f"What training costs ({data}); red: trains on adversarial examples", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).parent.parent / "docs" / "methods.png", dpi=150)


if __name__ == "__main__":
    main()
