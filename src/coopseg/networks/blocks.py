"""Defines the residual blocks that make up all five networks (Chen et al. 2021, supplementary material).

Rearrangements lower the cost without changing the result:
- A 1×1 convolution commutes with nearest-neighbour upsampling, so it runs at the low resolution.
- A 3×3 convolution after nearest-neighbour ×2 reads every low-resolution pixel up to four times. Summing the
  weights that meet the same pixel gives a transposed 4×4 convolution of stride 2, with 16 instead of 36
  products per low-resolution pixel.
- A norm with batch statistics subtracts what the convolution before it adds to every pixel. So the bias of
  that convolution has gradient 0 and only enters the running mean.
- The bias of a skip connection has the same gradient as the norm's bias, so it is added to that.

The image decoder's learned ×2, a transposed 2×2 convolution of stride 2, merges with the convolution behind
it too. Both are linear, so together they are one transposed convolution of stride 2: 4×4 if a padded 3×3
convolution follows, 2×2 if a 1×1 one does. For a 3×3 and a 1×1 one together, that takes 5 instead of 11
products per output pixel and pair of channels, and the upsampled image is never stored. Only the first bias
needs care: the second convolution turns it into a constant inside the image, but not at the edge, where 3×3
windows reach beyond the image.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from coopseg.networks.norm import Norm

SLOPE = 0.2
# The first, the inner and the last rows or columns. Pixels inside in both directions need no correction.
PARTS = (slice(0, 1), slice(1, -1), slice(-1, None))
EDGES = tuple((row, column) for row, column in product(range(3), range(3)) if (row, column) != (1, 1))


def bias_before(norm: Norm, convolution: nn.Conv2d) -> Tensor | None:
    """Returns the bias to give `convolution`: None if `norm` uses batch statistics and would cancel it."""
    return None if norm.centres else convolution.bias


def convolve_and_normalise(
    convolution: nn.Conv2d, norm: Norm, x: Tensor, *, slope: float = SLOPE, **skip: Tensor | None
) -> Tensor:
    """Returns LeakyReLU(norm(convolution(x)) + skip); `slope` and `skip` are those of `Norm.forward`."""
    bias = bias_before(norm, convolution)
    y = F.conv2d(x, convolution.weight, bias, padding=convolution.padding)
    return norm(y, slope=slope, offset=None if bias is not None else convolution.bias, **skip)


def merge_upsampling(weight: Tensor) -> Tensor:
    """Merges nearest-neighbour ×2 and the 3×3 convolution after it into one transposed convolution.

    weight: (out, in, 3, 3). Returns weights (in, out, 4, 4) for conv_transpose2d with stride 2, padding 1.
    """
    out, channels = weight.shape[:2]
    flipped = weight.flip(2, 3).reshape(out * channels, 1, 3, 3)
    ones = torch.ones(1, 1, 2, 2, dtype=weight.dtype, device=weight.device)
    return F.conv2d(flipped, ones, padding=1).reshape(out, channels, 4, 4).transpose(0, 1)


def compose(up: Tensor, weight: Tensor) -> Tensor:
    """Merges `up` and the "same"-padded convolution with `weight` into one transposed convolution.

    up: (in, middle, 2, 2), of stride 2. weight: (out, middle, k, k), k 3 or 1. Returns weights
    (in, out, k + 1, k + 1), to use with stride 2 and padding k // 2.
    """
    # one matrix product; a convolution would multiply three zeros for each weight
    products = torch.einsum("imab,omkl->ioabkl", up, weight.flip(2, 3))
    placed = [F.pad(products[:, :, a, b], (b, 1 - b, a, 1 - a)) for a in range(2) for b in range(2)]
    return torch.stack(placed).sum(0)


def bias_inside(up_bias: Tensor, weight: Tensor) -> Tensor:
    """Returns (out,): what the first bias adds to each pixel whose window lies inside the image."""
    return weight.sum((2, 3)) @ up_bias


def correct_edges(y: Tensor, up_bias: Tensor, weight: Tensor) -> Tensor:
    """Corrects `y` (B, out, H, W) in place at the image's edges, where the first bias adds less than inside.

    weight: (out, middle, 3, 3). Returns `y`.
    """
    constant = up_bias.reshape(1, -1, 1, 1).expand(1, -1, 3, 3)
    table = F.conv2d(constant, weight, padding=1)[0].to(y.dtype)
    return _AddToEdges.apply(y, table - table[:, 1:2, 1:2])  # type: ignore[no-untyped-call]


class _AddToEdges(torch.autograd.Function):
    """Computes y[part of rows, part of columns] += table[row, column] for each of EDGES.

    Autograd's own way of adding to a part copies the whole gradient, once for each part.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, table: Tensor) -> Tensor:
        ctx.mark_dirty(y)
        for row, column in EDGES:
            y[:, :, PARTS[row], PARTS[column]] += table[:, row, column, None, None]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        table = gradient.new_zeros(gradient.shape[1], 3, 3)
        for row, column in EDGES:
            table[:, row, column] = gradient[:, :, PARTS[row], PARTS[column]].sum((0, 2, 3))
        return gradient, table


class Residual(nn.Module):
    """Computes LReLU(skip(v) + norm2(conv2(LReLU(norm1(conv1(v)))))) with 3×3 conv1, conv2 and 1×1 skip."""

    def __init__(self, inputs: int, outputs: int, *, running: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1 = Norm(outputs, running=running)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = Norm(outputs, running=running)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def body(self, first: Tensor, skip: Tensor, bias: Tensor | None, skip_bias: Tensor | None) -> Tensor:
        """Completes the block from `first`, which is conv1(v), and `skip`, which is skip(v).

        bias, skip_bias: (outputs,), the biases of the two. `first` lacks `bias` if norm1 would cancel it;
        `skip` always lacks `skip_bias`.
        """
        x = self.norm1(first, slope=SLOPE, offset=bias if self.norm1.centres else None)
        return convolve_and_normalise(self.conv2, self.norm2, x, skip=skip, skip_bias=skip_bias)

    def residual(self, v: Tensor) -> Tensor:
        """Applies the block to v: (B, inputs, H, W) -> (B, outputs, H, W)."""
        first = F.conv2d(v, self.conv1.weight, bias_before(self.norm1, self.conv1), padding=1)
        return self.body(first, F.conv2d(v, self.skip.weight), self.conv1.bias, self.skip.bias)


class DownBlock(Residual):
    """Applies a strided 3×3 convolution, then a `Residual`: (B, inputs, H, W) -> (B, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int, *, running: bool = False) -> None:
        super().__init__(inputs, outputs, running=running)
        self.down = nn.Conv2d(inputs, inputs, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Halves the resolution."""
        return self.residual(self.down(x))


class UpBlock(Residual):
    """Applies nearest-neighbour ×2, then a `Residual`: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Doubles the resolution; the head of this file explains how."""
        merged = merge_upsampling(self.conv1.weight)
        bias = bias_before(self.norm1, self.conv1)
        first = F.conv_transpose2d(x, merged, bias, stride=2, padding=1)
        skip = F.interpolate(F.conv2d(x, self.skip.weight), scale_factor=2.0, mode="nearest")
        return self.body(first, skip, self.conv1.bias, self.skip.bias)


class TransposedUpBlock(Residual):
    """Applies a learned ×2 (transposed 2×2 convolution of stride 2), then a `Residual`; for images."""

    def __init__(self, inputs: int, outputs: int, *, running: bool = False) -> None:
        super().__init__(inputs, outputs, running=running)
        self.up = nn.ConvTranspose2d(inputs, inputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Doubles the resolution in one step; the head of this file explains how."""
        up, added = self.up.weight, self.up.bias
        assert added is not None
        assert self.conv1.bias is not None
        assert self.skip.bias is not None
        inside = self.conv1.bias + bias_inside(added, self.conv1.weight)
        merged, bias = compose(up, self.conv1.weight), None if self.norm1.centres else inside
        first = correct_edges(
            F.conv_transpose2d(x, merged, bias, stride=2, padding=1), added, self.conv1.weight
        )
        skip = F.conv_transpose2d(x, compose(up, self.skip.weight), stride=2)
        skip_bias = self.skip.bias + bias_inside(added, self.skip.weight)
        return self.body(first, skip, inside, skip_bias)
