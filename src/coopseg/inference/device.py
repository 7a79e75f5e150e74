"""Chooses where to compute, and how precisely."""

from __future__ import annotations

import torch

from coopseg.errors import CoopsegError

PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16}


def usable_devices() -> tuple[str, ...]:
    """Returns the kinds of device that torch can use here, the fastest first."""
    accelerators = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return (*(name for name, there in accelerators.items() if there), "cpu")


def choose_device(name: str) -> torch.device:
    """Returns the device called `name`, the fastest for "auto". Raises CoopsegError if it is not there."""
    usable = usable_devices()
    if name != "auto" and name not in usable:
        raise CoopsegError(f"device {name!r} is not available here; usable: auto, {', '.join(usable)}")
    return torch.device(usable[0] if name == "auto" else name)


def choose_dtype(precision: str) -> torch.dtype:
    """Returns the type that layers compute in for "32" or "bf16". Raises CoopsegError for any other."""
    if precision not in PRECISIONS:
        raise CoopsegError(f"precision {precision!r} is not known; use {' or '.join(PRECISIONS)}")
    return PRECISIONS[precision]
