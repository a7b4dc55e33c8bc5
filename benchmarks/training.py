"""A BPFC training step of M-LeNet at batch 64: ours against a plain twin and against a normal step, and its memory.

    python benchmarks/training.py

The plain twin: float32, contiguous layout, two forwards. Ours: the precision that `auto` picks, channels_last, one
forward for both halves. Target: at least 2 times as fast where the CPU is fast in bfloat16; a BPFC step at most 2.1
times a normal step.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from common import medians, peak_mib, print_machine

from bpfc import BPFC, Normal, quantize
from bpfc.machine import pick_device, resolve
from bpfc.methods import Method
from bpfc.models import build
from bpfc.options import Arithmetic
from bpfc.training.engine import TrainingStep


def make_step(method: Method | None, precision: Arithmetic = "fp32") -> Callable[[], None]:
    """A training step on a fixed batch; without a method, the plain twin of BPFC."""
    torch.manual_seed(0)
    images, labels = torch.rand(64, 1, 28, 28), torch.randint(0, 10, (64,))
    model = build("m-lenet", channels=1, classes=10, size=28)
    if method is not None:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        loss_of = TrainingStep(model, method, precision)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        if method is None:
            coarse = model(quantize(images, 6))
            logits = model(images)
            loss = F.cross_entropy(logits, labels) + 25.0 * (logits - coarse).square().sum(1).mean()
        else:
            loss, _, _ = loss_of(images, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ten_steps(method: Method | None, precision: Arithmetic = "fp32") -> None:
    step = make_step(method, precision)
    for _ in range(10):
        step()


def main() -> None:
    print_machine()
    auto = resolve("auto", pick_device("cpu"))
    variants: dict[str, tuple[Method | None, Arithmetic]] = {
        "BPFC, plain twin": (None, "fp32"),
        "BPFC, ours, auto": (BPFC(k=6, weight=25.0), auto),
        "BPFC, ours, bfloat16": (BPFC(k=6, weight=25.0), "bf16"),
        "normal, ours, auto": (Normal(), auto),
    }
    seconds = medians({name: make_step(*variant) for name, variant in variants.items()}, rounds=25, warmup=5)
    for name, variant in variants.items():
        ratio = seconds["BPFC, plain twin"] / seconds[name]
        memory = peak_mib(partial(ten_steps, *variant))
        print(
            f"{name:22} {1000 * seconds[name]:7.1f} ms a step, {ratio:.2f} times as fast as the twin, {memory:5.0f} MiB"
        )
    print(f"a BPFC step takes {seconds['BPFC, ours, auto'] / seconds['normal, ours, auto']:.2f} times a normal step")


if __name__ == "__main__":
    main()
