"""Measures what this machine can do, and the shortest time in which it could do a step.

The limit of a step takes each operator for itself: its arithmetic at the best rate that a convolution
reaches here, or its inputs and outputs once through memory at the rate of a copy, whichever is longer. No
operator can be faster unless it is joined to another or its tensors stay in a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from measures.step import make_step
from measures.timing import timed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from coopseg.config.resolve import resolve_settings
from coopseg.networks import native
from coopseg.training.processes import keep_freed_memory

TYPES = {"32": torch.float32, "bf16": torch.bfloat16}
SHAPES = ((64, 48), (128, 24), (32, 96))  # channels and side of the convolutions tried, batch 20
FREE = {"detach", "empty_like", "empty", "view", "t", "transpose", "alias", "as_strided", "expand", "permute"}


def best_convolution(precision: str) -> float:
    """GFLOP/s of the quickest 3x3 convolution of the networks, forward."""
    rates = []
    for channels, side in SHAPES:
        image = torch.randn(20, channels, side, side, dtype=TYPES[precision])
        weight = torch.randn(channels, channels, 3, 3, dtype=TYPES[precision])
        image, weight = (t.contiguous(memory_format=torch.channels_last) for t in (image, weight))
        seconds = timed(partial(F.conv2d, image, weight, padding=1), 7)["median_s"]
        rates.append(2 * 9 * channels**2 * side**2 * 20 / seconds / 1e9)
    return float(max(rates))


def copy_rate() -> float:
    """Returns GB/s, read and written, of tensors that no cache holds."""
    tensors = [torch.randn(2**25) for _ in range(8)]
    seconds = timed(lambda: [b.copy_(a) for a, b in pairwise(tensors)], 3)["median_s"]
    return float(7 * 2 * 4 * 2**25 / seconds / 1e9)


class _Bound(TorchDispatchMode):
    """Adds up the least seconds of every operator, and the floating-point operations."""

    def __init__(self, flops_a_second: float, bytes_a_second: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rates = flops_a_second, bytes_a_second
        self.seconds = self.arithmetic = self.flops = 0.0

    def add(self, flops: float, size: float) -> None:
        self.flops += flops
        self.arithmetic += flops / self.rates[0]
        self.seconds += max(flops / self.rates[0], size / self.rates[1])

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ not in FREE:
            tensors = [leaf for leaf in tree_leaves((args, found)) if isinstance(leaf, Tensor)]
            formula = flop_registry.get(function.overloadpacket)
            flops = formula(*args, **(kwargs or {}), out_val=found) if formula else 0
            self.add(flops, sum(tensor.nbytes for tensor in tensors))
        return found


@contextmanager
def _kernels_counted(bound: _Bound) -> Iterator[None]:
    """Counts the images of the fused kernels where they are called: they are no operators of PyTorch."""
    call = native._call

    def counted(name: str, x: Tensor, images: list[Tensor | None], channelwise: list[Any]) -> None:
        bound.add(0, sum(image.nbytes for image in images if image is not None))
        call(name, x, images, channelwise)

    with patch.object(native, "_call", counted):
        yield


def bound_of_step(preset: str, method: str, precision: str, gflops: float, copy: float) -> dict[str, float]:
    """Returns {"limit_s", "arithmetic_s", "gflop"} of one step."""
    run = make_step(resolve_settings(preset=preset, method=method, precision=precision))
    run()
    with _Bound(gflops * 1e9, copy * 1e9) as bound, _kernels_counted(bound):
        run()
    return {"limit_s": bound.seconds, "arithmetic_s": bound.arithmetic, "gflop": bound.flops / 1e9}


def measure(*, steps: list[tuple[str, str, str]], threads: int = 2) -> dict[str, Any]:
    """Measures the limits. steps: each (preset, method, precision)."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    rates = {precision: best_convolution(precision) for precision in {step[2] for step in steps}}
    copy = copy_rate()
    bounds = {" ".join(step): bound_of_step(*step, rates[step[2]], copy) for step in steps}
    return {"convolution_gflops": rates, "copy_gb_s": copy, "steps": bounds}
