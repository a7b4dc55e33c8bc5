"""PGD-100 on 1,000 Fashion-MNIST test images of a BPFC network: ours against the plain loop, and its memory.

    python benchmarks/pgd.py [RUN [IMAGES]]

RUN is a folder that `bpfc train fashion-mnist-bpfc` left; without one, a short training makes one. The plain loop:
float32, contiguous layout, gradients of the parameters too, nobody dropped, every iterate's verdict kept. Target: at
least 5 times as fast (with bfloat16), robust accuracies within 0.5 points.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from common import medians, peak_mib, print_machine

import bpfc
from bpfc.attacks import ImageRng
from bpfc.data import load, to_float
from bpfc.machine import pick_device, resolve
from bpfc.options import Arithmetic
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run
from bpfc.training.settings import Schedule
from bpfc.training.start import train

STEPS, BATCH = 100, 256


def ours(run: Path, precision: Arithmetic, count: int, steps: int = STEPS) -> float:
    """Robust accuracy of the first `count` test images by the evaluator."""
    recipe, data = Run(run).recipe(), load("fashion-mnist")
    images = to_float(data.test.pixels[:count]).contiguous(memory_format=torch.channels_last)
    return bpfc.evaluate(
        Run(run).model(data),
        images,
        data.test.labels[:count],
        attacks=f"pgd-{steps}",
        eps=recipe.eps,
        step_size=recipe.step_size,
        batch_size=BATCH,
        precision=precision,
    ).robust


def plain(run: Path, count: int, steps: int = STEPS) -> float:
    """The same by the textbook loop."""
    recipe, data = Run(run).recipe(), load("fashion-mnist")
    model = Run(run).model(data).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    stand = 0
    for indices in torch.arange(count).split(BATCH):
        images, labels = to_float(data.test.pixels[indices]), data.test.labels[indices]
        x = images + recipe.eps * ImageRng(0, indices.tolist()).uniform(images)
        broken = model(images).argmax(1) != labels
        for step in range(steps + 1):
            x = x.detach().requires_grad_()
            logits = model(x)
            legal = (x.detach().flatten(1).min(1).values >= 0) & (x.detach().flatten(1).max(1).values <= 1)
            broken |= legal & (logits.argmax(1) != labels)
            if step < steps:
                F.cross_entropy(logits, labels, reduction="sum").backward()
                assert x.grad is not None
                x = x.detach() + recipe.step_size * x.grad.sign()
                x = torch.min(torch.max(x, images - recipe.eps), images + recipe.eps).clamp(0, 1)
        stand += int((~broken).sum())
    return stand / count


def short_training(folder: Path) -> Path:
    recipe = RECIPES["fashion-mnist-bpfc"][1]
    quick = replace(recipe, epochs=4, limit=6000, lr=0.03, lr_schedule=Schedule(shape="one-cycle"))
    recipe = replace(quick, validation_attacked=50, ifgsm_steps=5, clip_norm=1.0)
    return train(recipe, folder / "run").folder


def main() -> None:
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(sys.argv[1]) if len(sys.argv) > 1 else short_training(Path(folder))
        count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
        auto = resolve("auto", pick_device("cpu"))
        variants: dict[str, Callable[..., float]] = {"plain loop": partial(plain, run)}
        variants |= {"ours, auto": partial(ours, run, auto), "ours, bfloat16": partial(ours, run, "bf16")}
        robust: dict[str, float] = {}

        def remember(name: str) -> None:
            robust[name] = variants[name](count=count)

        seconds = medians({name: partial(remember, name) for name in variants}, rounds=1, warmup=0)
        for name, work in variants.items():
            ratio = seconds["plain loop"] / seconds[name]
            memory = peak_mib(partial(work, count=BATCH, steps=3))
            print(
                f"{name:15} {seconds[name]:6.1f} s, {ratio:.2f} times the plain loop's speed, "
                f"robust accuracy {robust[name]:.1%} of {count}, {memory:5.0f} MiB"
            )


if __name__ == "__main__":
    main()
