"""What this machine does best: where and in which precision to compute, and the memory that took."""

import ctypes
import os
import re
import resource
import sys
from pathlib import Path
from typing import Literal

import torch

Arithmetic = Literal["fp32", "bf16"]
Precision = Literal["auto", "fp32", "bf16"]


def resolve(precision: Precision, device: torch.device) -> Arithmetic:
    """fp32 or bf16; `auto` is bf16 where the hardware multiplies matrices in it (GPUs since Ampere, CPUs with AMX).

    A CPU with AVX512_BF16 alone counts as fp32: its dot-product instruction runs at half the rate, and M-LeNet's step
    took 1.5 times as long in bfloat16 as in float32 where we measured it (docs/architecture.md).
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"


def keep_memory() -> None:
    """Lets the C library keep the memory of freed tensors, in huge pages, where it would give it back to the kernel.

    A training step on the CPU frees and asks again for the same tens of megabytes; faulting them in page by page
    takes a share of it. To be called before the first large tensor; does nothing where there is no glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads this at its first allocation
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h's names for the two
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_threshold, 32 * 2**20)


def autocast(device: torch.device, precision: Arithmetic) -> torch.autocast:
    """A context in which layers compute in that precision; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def pick_device(device: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device asked for; `auto` is CUDA where there is one.

    Raises:
        ValueError: CUDA was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here; use --device cpu, or a CUDA build of torch")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def peak_memory_mib(device: torch.device) -> float:
    """The most memory so far, in MiB: what torch allocated on a GPU, else what this process held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(peak[1]) / 2**10  # ru_maxrss would hold that of the process which started this one, if more
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
