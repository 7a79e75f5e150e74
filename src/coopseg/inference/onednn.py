"""Speeds up folded networks on a processor: lays weights out once for oneDNN, fuses activations.

torch.nn.functional lays the weights out anew at every call and writes an activation in a pass of its own. The
operators that torch.compile uses on processors do neither, and need no compiler. They are not a public
interface of torch, so they are tried first; if they do not work, the networks stay as they were folded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.networks.blocks import SLOPE
from coopseg.networks.fold import Convolution, FoldedNetworks, Upsampling


def pack(networks: FoldedNetworks) -> FoldedNetworks:
    """Lays out the weights of `networks`, in place, if oneDNN can compute in their precision.

    Returns `networks`. Their results stay the same up to rounding, but they can no longer be moved to another
    device or type.
    """
    if usable(next(networks.buffers()).dtype):
        _pack(networks)
    return networks


def usable(dtype: torch.dtype) -> bool:
    """Tells whether oneDNN's fused convolutions work here, for float32 or, in hardware, for bfloat16."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        _try(dtype)
    except (AttributeError, RuntimeError, TypeError):  # missing, refused, or with another signature
        return False
    return True


def _try(dtype: torch.dtype) -> None:
    """Runs each operator once, on next to nothing."""
    x = torch.zeros(1, 1, 2, 2, dtype=dtype)
    layer = Packed(Convolution(torch.zeros(1, 1, 3, 3, dtype=dtype), torch.zeros(1, dtype=dtype), slope=0.0))
    layer.join(layer(x), x)
    PackedUpsampling(Upsampling(torch.zeros(1, 1, 4, 4, dtype=dtype), torch.zeros(1, dtype=dtype)))(x)


def _pack(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Upsampling):
            setattr(module, name, PackedUpsampling(child))
        elif type(child) is Convolution:
            setattr(module, name, Packed(child))
        else:
            _pack(child)


class Packed(nn.Module):
    """Applies a `Convolution` with its weight in the layout of oneDNN."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        padding = layer.weight.shape[-1] // 2
        # padding, stride, dilation and groups
        self.geometry = ([padding, padding], [layer.stride, layer.stride], [1, 1], 1)
        self.activation = _activation(layer.slope)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(layer.weight, *self.geometry)
        self.bias: Tensor
        self.register_buffer("bias", layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Does the same as `Convolution.forward`."""
        operator = torch.ops.mkldnn._convolution_pointwise
        return operator(x, self.weight, self.bias, *self.geometry, *self.activation, "")

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Does the same as `Convolution.join`; the sum overwrites `skip`."""
        operator = torch.ops.mkldnn._convolution_pointwise_.binary
        joined = operator(skip, x, self.weight, self.bias, *self.geometry, "add", 1.0, None, [], "")
        return F.leaky_relu(joined, SLOPE, inplace=True)


class PackedUpsampling(nn.Module):
    """Applies an `Upsampling` with its weight in the layout of oneDNN."""

    def __init__(self, layer: Upsampling) -> None:
        super().__init__()
        # padding, output padding, stride, dilation and groups
        self.geometry = ([1, 1], [0, 0], [2, 2], [1, 1], 1)
        self.activation = _activation(layer.slope)
        self.weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(layer.weight, *self.geometry)
        self.bias: Tensor
        self.register_buffer("bias", layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Does the same as `Upsampling.forward`."""
        operator = torch.ops.mkldnn._convolution_transpose_pointwise
        return operator(x, self.weight, self.bias, *self.geometry, *self.activation, "")


def _activation(slope: float | None) -> tuple[str, list[float]]:
    return ("none", []) if slope is None else ("leaky_relu", [slope])
