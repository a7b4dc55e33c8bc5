"""What this machine does best: where and in which precision to compute, and the memory that took."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch

from bpfc.options import Arithmetic, Precision


def resolve(precision: Precision, device: torch.device, started: Arithmetic | None = None) -> Arithmetic:
    """fp32 or bf16. `auto`: bf16 on GPUs that multiply matrices in it (since Ampere) and CPUs that are faster in it.

    Args:
        precision: as it was asked for.
        device: where to compute.
        started: the precision in which the work began, if it did; `auto` goes on in that.
    """
    if precision != "auto":
        return precision
    if started is not None:
        return started
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _seconds("fp32") > 1.2 * _seconds("bf16") else "fp32"


def precision_of(path: Path) -> Arithmetic | None:
    """The precision in a JSON file; None where it tells none. Whoever reads the rest says what is wrong with it."""
    try:
        told = json.loads(path.read_bytes())["precision"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return {"fp32": "fp32", "bf16": "bf16"}.get(str(told))  # type: ignore[return-value]


@cache
def _seconds(precision: Arithmetic) -> float:
    """Of a convolution's forward and backward on one core of this CPU, the best of a few; timed once a process.

    Timed, because the instruction set does not tell: with AVX512_BF16 a step of M-LeNet is 1.5 times slower in bfloat16
    than in float32 on one CPU and 2 times faster on another (docs/architecture.md).
    """
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    torch.set_num_threads(1)  # more would wait for each other where the other cores are busy
    images = torch.zeros(16, 32, 14, 14).contiguous(memory_format=torch.channels_last).requires_grad_()
    kernels = torch.zeros(64, 32, 5, 5, requires_grad=True)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < 6 and sum(seconds) < 0.25):  # one that is emulated takes that long
        begin = time.perf_counter()
        with autocast(cpu, precision):
            torch.nn.functional.conv2d(images, kernels, padding=2).sum().backward()
        seconds.append(time.perf_counter() - begin)
    torch.set_num_threads(threads)
    return min(seconds)


def autocast(device: torch.device, precision: Arithmetic) -> torch.autocast:
    """A context in which layers compute in that precision; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


class _Inside:
    """Who is in `float32`, of all threads: torch's settings are one for all of them."""

    lock = Lock()
    count = 0
    put_back: Callable[[], None]


@contextmanager
def float32() -> Iterator[None]:
    """A context in which float32 is float32, whatever else around it may go by that name: TF32 on GPUs, where cuDNN
    takes it unasked, and by torch.set_float32_matmul_precision bfloat16 on CPUs.

    The first to enter changes the settings, and the last to leave puts them back.
    """
    with _Inside.lock:
        if not _Inside.count:
            _Inside.put_back = _make_exact()
        _Inside.count += 1
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.count -= 1
            if not _Inside.count:
                _Inside.put_back()


def _make_exact() -> Callable[[], None]:
    """Makes float32 what its name says, and gives back what undoes it."""
    backends: Any = torch.backends
    try:
        convolutions, products = backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:  # set by torch's newer names, which are not to be mixed with these
        places = [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]
        places += [backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul]
        before = [place.fp32_precision for place in places]

        def set_all(precisions: Iterable[str]) -> None:
            for place, precision in zip(places, precisions, strict=True):
                place.fp32_precision = precision

        set_all(["ieee"] * len(places))
        return lambda: set_all(before)

    def set_both(tf32: bool, precision: str) -> None:
        backends.cudnn.allow_tf32 = tf32
        torch.set_float32_matmul_precision(precision)

    set_both(False, "highest")
    return lambda: set_both(convolutions, products)


def pick_device(device: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device asked for; `auto` is CUDA where there is one; under torchrun each process has its own.

    On CUDA, convolutions in float32 are float32 from then on. Unless told so, cuDNN takes TF32 for it, which has ten
    bits of a number's 23: no verdict and no proof would be what they say. Who wants speed has bfloat16.

    Raises:
        ValueError: CUDA was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here; use --device cpu, or a CUDA build of torch")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device(device, int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return torch.device(device)


def peak_memory_mib(device: torch.device) -> float:
    """The most memory so far, in MiB: what torch allocated on a GPU, else what this process held; 0 on Windows' CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(peak[1]) / 2**10  # ru_maxrss would hold that of the process which started this one, if more
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
