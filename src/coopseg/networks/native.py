"""Fuses batch normalisation, a skip connection and LeakyReLU into one differentiable operation on a CPU.

The kernels are compiled for this processor when first needed; everything works without them.

Every process builds them anew in a temporary folder, which takes two seconds. A library kept on disk would
have to be told apart by processor, compiler and version, and be trusted.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
FAST = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math")
FLAGS = (*FAST, "-std=c++17", "-fopenmp", "-shared", "-fPIC")
SWITCH = "COOPSEG_NATIVE"  # 0 turns the kernels off
TOO_LONG = 120  # seconds
LANES = 64  # as in kernels.cpp
KINDS = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}


class Kernels:
    """Holds the library, or the reason why there is none. True if it can be used."""

    def __init__(self, library: ctypes.CDLL | None, reason: str = "") -> None:
        self.library, self.reason = library, reason

    def __bool__(self) -> bool:
        return self.library is not None

    def __str__(self) -> str:
        return "native" if self else f"torch ({self.reason})"


@functools.cache
def kernels() -> Kernels:
    """Compiles the kernels, once per process. str() of the result says what is used and why."""
    if os.environ.get(SWITCH) == "0":
        return Kernels(None, f"{SWITCH}=0")
    compiler = next(filter(shutil.which, (os.environ.get("CXX", ""), *COMPILERS)), None)
    if compiler is None:
        return Kernels(None, "no C++ compiler")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.so"
        try:
            subprocess.run(
                [compiler, *FLAGS, str(SOURCE), "-o", str(target)],
                check=True,
                capture_output=True,
                timeout=TOO_LONG,
                stdin=subprocess.DEVNULL,
            )
            return Kernels(ctypes.CDLL(str(target)))  # stays loaded when the file is gone
        except (OSError, subprocess.SubprocessError) as error:
            return Kernels(None, f"{compiler} failed: {type(error).__name__}")


def fits(x: Tensor, skip: Tensor | None) -> bool:
    """Tells whether the kernels can be used for these tensors; builds them when first needed."""
    channels, layout = x.shape[1], torch.channels_last
    return (
        x.device.type == "cpu"
        and x.dtype in KINDS
        and x.is_contiguous(memory_format=layout)
        and x.numel() > channels  # one value has no variance; PyTorch then raises
        and (channels % LANES == 0 or (LANES % channels == 0 and x.numel() % LANES == 0))
        and (skip is None or (skip.dtype == x.dtype and skip.is_contiguous(memory_format=layout)))
        and bool(kernels())
    )


def normalise(
    x: Tensor, skip: Tensor | None, weight: Tensor, bias: Tensor, *, epsilon: float, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns LeakyReLU(batchnorm(x) + skip), and the batch's mean and biased variance.

    x, skip: (B, C, H, W) for which `fits` holds. weight, bias: (C,) float32, or float64 for a float64 x. The
    statistics carry no gradient.
    """
    return _Normalise.apply(x, skip, weight, bias, epsilon, slope)  # type: ignore[no-untyped-call]


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        skip: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        epsilon: float,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, mean, variance = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        _call("forward", x, [x, skip, y], [weight, bias, epsilon, slope, mean, variance])
        # y is kept for its sign; without a skip connection, x alone gives that
        ctx.save_for_backward(x, None if skip is None else y, weight, bias, mean, variance)
        ctx.constants = epsilon, slope
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, y, weight, bias, mean, variance = ctx.saved_tensors
        gradient = gradient.to(x.dtype).contiguous(memory_format=torch.channels_last)
        dx, dskip = torch.empty_like(x), None if y is None else torch.empty_like(x)
        dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
        statistics = [weight, bias, mean, variance, *ctx.constants, dweight, dbias]
        _call("backward", x, [gradient, x, y, dx, dskip], statistics)
        return dx, dskip, dweight, dbias, None, None


def _call(name: str, x: Tensor, images: list[Tensor | None], channelwise: list[Tensor | float]) -> None:
    """Calls NAME_TYPE(images..., elements, channels, channelwise..., threads) of kernels.cpp."""
    function = getattr(kernels().library, f"{name}_{KINDS[x.dtype]}")
    function.restype = None
    sizes = ctypes.c_int64(x.numel()), ctypes.c_int(x.shape[1])
    threads = ctypes.c_int(torch.get_num_threads())
    function(*map(_argument, images), *sizes, *map(_argument, channelwise), threads)


def _argument(value: Tensor | float | None) -> Any:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    return ctypes.c_double(value)
