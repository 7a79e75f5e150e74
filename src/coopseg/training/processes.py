"""Says what a training needs of its processes: a device, equal weights, a stop on signals, and memory.

Gradients and running statistics are averaged over several processes, so that all ranks stay equal. The step
differentiates piece by piece. A DistributedDataParallel wrapper cannot follow that: it waits for one backward
over one graph. The networks hold 10 MB, so one averaged message per step costs little.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from coopseg.inference.model import choose_device

Value = TypeVar("Value")

STOPPING = (signal.SIGTERM, signal.SIGINT)  # a cluster wants its machine back; Ctrl-C
# Parameters of glibc's mallopt, from malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def make_fabric(device: str, precision: str) -> Fabric:
    """Makes Fabric for the device; under torchrun it joins the other processes.

    Raises CoopsegError if the device is not there.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // processes
    fabric = Fabric(
        accelerator=choose_device(device).type,
        devices=processes,
        num_nodes=max(1, nodes),
        strategy="ddp" if processes * nodes > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def _exchanged(networks: nn.Module) -> list[Tensor]:
    gradients = [p.grad for p in networks.parameters() if p.grad is not None]
    return [*gradients, *networks.buffers()]


@torch.no_grad()
def average_gradients(fabric: Fabric, networks: nn.Module) -> None:
    """Replace every gradient and running statistic by its mean over the processes."""
    if fabric.world_size == 1:
        return
    tensors = _exchanged(networks)
    flat = fabric.all_reduce(torch.cat([t.flatten() for t in tensors]), reduce_op="mean")
    assert isinstance(flat, Tensor)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def share_weights(fabric: Fabric, networks: nn.Module) -> None:
    """Start every process from the weights of the first."""
    for tensor in networks.state_dict().values():
        tensor.copy_(fabric.broadcast(tensor, src=0))


def gather(fabric: Fabric, value: Value) -> list[Value]:
    """Returns every process's `value`, in the order of ranks; for small things that can be pickled."""
    if fabric.world_size == 1:
        return [value]
    values = [value] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


class StopSignals:
    """Keeps the number of the first SIGTERM or SIGINT of its block in `received`, which is None before that.

    A second signal has its usual effect at once. Outside the main thread Python allows no handlers, so
    signals do what they always do.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            return
        self.__exit__()
        os.kill(os.getpid(), number)


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
    """Returns the most memory this process has held, in GiB: on the GPU, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss begins with that of the program that started this one
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
