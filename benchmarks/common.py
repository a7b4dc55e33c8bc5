"""Interleaved timing, peak memory in a process of its own, and counting what goes through a network."""

import multiprocessing
import statistics
import time
from collections.abc import Callable

from torch import Tensor, nn

from bpfc.machine import peak_memory_mib, pick_device, resolve
from bpfc.memory import keep_memory
from bpfc.provenance import provenance


class Counted(nn.Module):
    """A network that counts the images that go through it, forth and back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forwards = self.backwards = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        logits = self.network(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


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


def print_machine() -> None:
    """Says what measures, and sets the allocator as the command line does, for all variants alike."""
    keep_memory()
    device = pick_device("cpu")
    told = provenance(device)
    print(f"{told['hardware']}\n{told['versions']}, commit {told['commit']}, auto precision: {resolve('auto', device)}")
