"""Memory of a training process: how much it held, and keeping what it holds."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch

# Parameters of glibc's mallopt, from malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have freed tensors reused instead of given back to the system; True where that can be set (glibc).

    By default glibc maps every large tensor anew and unmaps it when it is freed, so that each step has its
    gigabytes cleared by the kernel once more: a third of the time of a step (docs/performance.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, NEVER))


def peak_memory_gb(device: torch.device) -> float:
    """Most memory this process has held: on the GPU, or resident (ru_maxrss)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
