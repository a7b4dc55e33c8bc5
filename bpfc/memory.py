"""How the C library treats freed memory. Without torch, which has to find it set."""

import ctypes
import os


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
