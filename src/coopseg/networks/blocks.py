"""The residual blocks of which all five networks are made (Chen et al. 2021, supplementary material).

Two rearrangements change the cost and not the result. A 1×1 convolution commutes with nearest-neighbour
upsampling, so it runs at the low resolution. A 3×3 convolution after nearest-neighbour ×2 reads every
low-resolution pixel up to four times; summing the weights that meet the same pixel first gives a
transposed 4×4 convolution of stride 2, with 16 instead of 36 products a pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.networks.norm import Norm

SLOPE = 0.2


def activate(x: Tensor) -> Tensor:
    """LeakyReLU in place: its gradient needs only the sign of its output, so no copy of x is kept."""
    return F.leaky_relu(x, SLOPE, inplace=True)


def merge_upsampling(weight: Tensor) -> Tensor:
    """Weights of a 3×3 convolution -> those of the equal transposed convolution on the image before ×2.

    weight: (out, in, 3, 3). Returns (in, out, 4, 4) for conv_transpose2d with stride 2, padding 1.
    """
    out, channels = weight.shape[:2]
    flipped = weight.flip(2, 3).reshape(out * channels, 1, 3, 3)
    ones = torch.ones(1, 1, 2, 2, dtype=weight.dtype, device=weight.device)
    return F.conv2d(flipped, ones, padding=1).reshape(out, channels, 4, 4).transpose(0, 1)


class Residual(nn.Module):
    """LReLU(skip(v) + norm2(conv2(LReLU(norm1(conv1(v)))))) with 3×3 conv1, conv2 and 1×1 skip."""

    def __init__(self, inputs: int, outputs: int, *, running: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1 = Norm(outputs, running=running)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = Norm(outputs, running=running)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def residual(self, first: Tensor, skip: Tensor) -> Tensor:
        """The block from conv1(v) and skip(v) on."""
        return activate(self.norm2(self.conv2(activate(self.norm1(first)))).add_(skip))


class DownBlock(Residual):
    """Strided 3×3 convolution, then the residual body: (B, inputs, H, W) -> (B, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int, *, running: bool = False) -> None:
        super().__init__(inputs, outputs, running=running)
        self.down = nn.Conv2d(inputs, inputs, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Half the resolution."""
        v = self.down(x)
        return self.residual(self.conv1(v), self.skip(v))


class UpBlock(Residual):
    """Nearest-neighbour ×2, then the residual body: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Twice the resolution; both rearrangements of this file are used."""
        merged = merge_upsampling(self.conv1.weight)
        first = F.conv_transpose2d(x, merged, self.conv1.bias, stride=2, padding=1)
        return self.residual(first, F.interpolate(self.skip(x), scale_factor=2.0, mode="nearest"))


class TransposedUpBlock(Residual):
    """Learned ×2 (transposed 2×2 convolution of stride 2), then the residual body; for images."""

    def __init__(self, inputs: int, outputs: int, *, running: bool = False) -> None:
        super().__init__(inputs, outputs, running=running)
        self.up = nn.ConvTranspose2d(inputs, inputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Twice the resolution."""
        v = self.up(x)
        return self.residual(self.conv1(v), self.skip(v))
