"""Fuses batch normalisation, a skip connection and LeakyReLU into one differentiable operation on a CPU."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from coopseg.networks.native.build import kernels

LANES = 64  # as in kernels.cpp
KINDS = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}


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
