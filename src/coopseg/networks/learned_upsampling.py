"""Merges a learned ×2 (transposed 2×2 convolution of stride 2) with the convolution that follows it.

Both are linear, so together they are one transposed convolution of stride 2: 4×4 if a padded 3×3 convolution
follows, 2×2 if a 1×1 one does. For a 3×3 and a 1×1 one together, that takes 5 instead of 11 products per
output pixel and pair of channels, and the upsampled image is never stored. Only the first bias needs care:
the second convolution turns it into a constant inside the image, but not at the edge, where 3×3 windows reach
beyond the image.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# The first, the inner and the last rows or columns. Pixels inside in both directions need no correction.
PARTS = (slice(0, 1), slice(1, -1), slice(-1, None))
EDGES = tuple((row, column) for row, column in product(range(3), range(3)) if (row, column) != (1, 1))


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
