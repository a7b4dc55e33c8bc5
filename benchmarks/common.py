"""Interleaved timing, peak memory in a process of its own, and counting what goes through a network."""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bpfc.judge import SLACK, exact_logits
from bpfc.machine import peak_memory_mib, pick_device, resolve
from bpfc.memory import keep_memory
from bpfc.models import behind
from bpfc.options import Device
from bpfc.provenance import provenance


@dataclass
class Passes:
    """Images that went through a network, forth and back."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def counted(model: nn.Module) -> Iterator[Passes]:
    """Counts the images that go through the model inside, also where an attack calls what stands behind its curve.

    That is made anew each time of what is in the model, so that it is the last module which both ways go through.
    """
    passes = Passes()
    last = model[-1] if isinstance(model, nn.Sequential) and behind(model) else model

    def forth(_: nn.Module, __: tuple[Tensor], logits: Tensor) -> None:
        passes.forwards += len(logits)
        if logits.requires_grad:
            logits.register_hook(back)

    def back(gradient: Tensor) -> None:
        passes.backwards += len(gradient)

    handle = last.register_forward_hook(forth)
    try:
        yield passes
    finally:
        handle.remove()


def operations(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """Floating-point operations an image, in convolutions and linear layers: forwards, and backwards to the images."""
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        at = images.clone().requires_grad_()
        logits = model(at + 0)  # no leaf: the counter's hooks cannot stand on one
        forwards = counter.get_total_flops()
        torch.autograd.grad(logits.sum(), at)
        backwards = counter.get_total_flops() - forwards
    return forwards / len(images), backwards / len(images)


def clock(device: torch.device) -> float:
    """Seconds of this process's CPU, which neighbours do not change; where a GPU works, of the clock."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def warm_up(model: nn.Module, images: Tensor) -> None:
    """Loads a GPU's kernels before any second counts; without one there is nothing to load."""
    if images.device.type != "cpu":
        with torch.enable_grad():
            at = images.clone().requires_grad_()
            torch.autograd.grad(model(at).sum(), at)


def peak_operations(device: torch.device, size: int = 3000, rounds: int = 5) -> float:
    """Floating-point operations in a second (`clock`), by a large matrix product in float32, best of a few.

    What can be had of a core, where torch has one thread.
    """
    left, right = torch.rand(2, size, size, device=device)
    seconds = []
    for _ in range(rounds):
        started = clock(device)
        left @ right
        seconds.append(clock(device) - started)
    return 2 * size**3 / min(seconds)


def standing(model: nn.Module, images: Tensor, labels: Tensor, found: Tensor, eps: float) -> Tensor:
    """(N,) bool, the same judgement for every library: the model is right about the image, and about what was found.

    Nothing that leaves the box, or the ℓ∞ ball by more than rounding, breaks an image.
    """
    right = exact_logits(model, images).argmax(dim=1) == labels
    wrong = exact_logits(model, found).argmax(dim=1) != labels
    near = (found - images).flatten(1).abs().amax(dim=1) <= eps + SLACK
    legal = near & (found.flatten(1).amin(dim=1) >= 0) & (found.flatten(1).amax(dim=1) <= 1)
    return right & ~(wrong & legal)


def adv_lib() -> ModuleType | None:
    """adv-lib's attacks, where it is installed; without the packages that it asks for and that no attack here needs."""
    if find_spec("adv_lib") is None:
        return None
    missing = [
        name for name in ("torchvision", "visdom", "tqdm") if name not in sys.modules and find_spec(name) is None
    ]
    sys.modules.update({name: MagicMock() for name in missing})
    try:
        return import_module("adv_lib.attacks")
    finally:
        for name in missing:
            del sys.modules[name]


def medians(variants: dict[str, Callable[[], object]], rounds: int, warmup: int = 1) -> dict[str, float]:
    """Median seconds of each variant; the variants take turns, so that a busy moment of the machine hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warmup + rounds):
        for name, work in variants.items():
            started = time.perf_counter()
            work()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}


def peak_mib(work: Callable[[], object]) -> float:
    """Peak memory of `work`, a picklable function, in a fresh process, less what importing takes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (work,))


def _peak(work: Callable[[], object]) -> float:
    before = peak_memory_mib(pick_device("cpu"))
    work()
    return peak_memory_mib(pick_device("cpu")) - before


def print_machine(chosen: Device = "cpu") -> None:
    """Says what measures, and sets the allocator as the command line does, for all variants alike."""
    keep_memory()
    device = pick_device(chosen)
    told = provenance(device)
    print(f"{told['hardware']}\n{told['versions']}, commit {told['commit']}, auto precision: {resolve('auto', device)}")
