"""Defines the residual blocks that make up all five networks (Chen et al. 2021, supplementary material).

Four rearrangements lower the cost without changing the result:
- A 1×1 convolution commutes with nearest-neighbour upsampling, so it runs at the low resolution.
- A 3×3 convolution after nearest-neighbour ×2 reads every low-resolution pixel up to four times. Summing the
  weights that meet the same pixel gives a transposed 4×4 convolution of stride 2, with 16 instead of 36
  products per low-resolution pixel.
- A norm with batch statistics subtracts what the convolution before it adds to every pixel. So the bias of
  that convolution has gradient 0 and only enters the running mean.
- The bias of a skip connection has the same gradient as the norm's bias, so it is added to that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.networks.learned_upsampling import bias_inside, compose, correct_edges
from coopseg.networks.norm import Norm

SLOPE = 0.2


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
        """Doubles the resolution in one step, as `coopseg.networks.learned_upsampling` explains."""
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
