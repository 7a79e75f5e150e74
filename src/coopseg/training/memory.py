"""Measures the memory of a training process, and keeps freed memory for reuse."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch

# Parameters of glibc's mallopt, from malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Lets freed memory be reused instead of given back to the system; True if that can be set (glibc).

    By default glibc maps every large tensor anew and unmaps it when it is freed. The kernel then clears
    gigabytes in each step, which takes a third of the step's time (docs/performance.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, NEVER))


def peak_memory_gb(device: torch.device) -> float:
    """Returns the most memory this process has held, in GiB: on the GPU, or resident (ru_maxrss)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
