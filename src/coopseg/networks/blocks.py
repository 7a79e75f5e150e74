"""The residual blocks of which all five networks are made (Chen et al. 2021, supplementary material).

Four rearrangements change the cost and not the result. A 1×1 convolution commutes with nearest-neighbour
upsampling, so it runs at the low resolution. A 3×3 convolution after nearest-neighbour ×2 reads every
low-resolution pixel up to four times; summing the weights that meet the same pixel first gives a
transposed 4×4 convolution of stride 2, with 16 instead of 36 products a pixel. What a convolution adds to
every pixel is taken away again by a norm with the batch's statistics, so its bias, whose gradient is 0,
only joins the running mean. The bias of a skip connection has the gradient of the norm's and joins that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.networks.learned_upsampling import bias_inside, compose, correct_edges
from coopseg.networks.norm import Norm

SLOPE = 0.2


def bias_before(norm: Norm, convolution: nn.Conv2d) -> Tensor | None:
    """The bias with which to run a convolution whose result `norm` reads; None where the norm undoes it."""
    return None if norm.centres else convolution.bias


def convolve_and_normalise(
    convolution: nn.Conv2d, norm: Norm, x: Tensor, *, slope: float = SLOPE, **skip: Tensor | None
) -> Tensor:
    """LeakyReLU(norm(convolution(x)) + skip); `skip` and `slope` as for Norm."""
    bias = bias_before(norm, convolution)
    y = F.conv2d(x, convolution.weight, bias, padding=convolution.padding)  # type: ignore[arg-type]
    return norm(y, slope=slope, offset=None if bias is not None else convolution.bias, **skip)


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

    def body(self, first: Tensor, skip: Tensor, bias: Tensor | None, skip_bias: Tensor | None) -> Tensor:
        """The block from conv1(v) and skip(v) on, the former without `bias` where the norm undoes it.

        bias, skip_bias: (outputs,), of the two; the latter is not in `skip`.
        """
        x = self.norm1(first, slope=SLOPE, offset=bias if self.norm1.centres else None)
        return convolve_and_normalise(self.conv2, self.norm2, x, skip=skip, skip_bias=skip_bias)

    def residual(self, v: Tensor) -> Tensor:
        """The block on v, (B, inputs, H, W) -> (B, outputs, H, W)."""
        first = F.conv2d(v, self.conv1.weight, bias_before(self.norm1, self.conv1), padding=1)
        return self.body(first, F.conv2d(v, self.skip.weight), self.conv1.bias, self.skip.bias)


class DownBlock(Residual):
    """Strided 3×3 convolution, then the residual body: (B, inputs, H, W) -> (B, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int, *, running: bool = False) -> None:
        super().__init__(inputs, outputs, running=running)
        self.down = nn.Conv2d(inputs, inputs, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Half the resolution."""
        return self.residual(self.down(x))


class UpBlock(Residual):
    """Nearest-neighbour ×2, then the residual body: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Twice the resolution; see the head of this file."""
        merged = merge_upsampling(self.conv1.weight)
        bias = bias_before(self.norm1, self.conv1)
        first = F.conv_transpose2d(x, merged, bias, stride=2, padding=1)
        skip = F.interpolate(F.conv2d(x, self.skip.weight), scale_factor=2.0, mode="nearest")
        return self.body(first, skip, self.conv1.bias, self.skip.bias)


class TransposedUpBlock(Residual):
    """Learned ×2 (transposed 2×2 convolution of stride 2), then the residual body; for images."""

    def __init__(self, inputs: int, outputs: int, *, running: bool = False) -> None:
        super().__init__(inputs, outputs, running=running)
        self.up = nn.ConvTranspose2d(inputs, inputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Twice the resolution, never made by itself; see `coopseg.networks.learned_upsampling`."""
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
