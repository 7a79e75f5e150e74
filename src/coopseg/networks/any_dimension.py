"""Builds small networks of torch's own layers, 2-D or 3-D, that are trained beside somebody's own network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.errors import CoopsegError

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Upsampler(nn.Module):
    """Decodes features (B, inputs, *spatial) to (B, outputs, *size), of any size.

    doublings: how many times resolution is doubled; the channels are halved each time, down to `least`.

    >>> import torch
    >>> Upsampler(2, inputs=32, outputs=1, doublings=3)(torch.rand(2, 32, 4, 4), (30, 32)).shape
    torch.Size([2, 1, 30, 32])
    """

    def __init__(self, dims: int, *, inputs: int, outputs: int, doublings: int, least: int = 8) -> None:
        super().__init__()
        _check_dims(dims)
        widths = [inputs, *(max(least, inputs >> step) for step in range(1, doublings + 1))]
        self.blocks = nn.ModuleList(block(dims, before, after) for before, after in pairwise(widths))
        self.out = CONVOLUTIONS[dims](widths[-1], outputs, 1)

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """Returns (B, outputs, *size): the features grow by equal factors from block to block."""
        start, mode = features.shape[2:], "bilinear" if features.ndim == 4 else "trilinear"
        for step, layer in enumerate(self.blocks, start=1):
            share = step / len(self.blocks)
            grown = [round(a * (b / a) ** share) for a, b in zip(start, size, strict=True)]
            features = layer(F.interpolate(features, size=grown, mode=mode))
        return self.out(features)


class Refiner(nn.Module):
    """Serves as an STN for any network: corrects probabilities (B, classes, *spatial), returns logits.

    A denoising autoencoder on segmentations: it sees no image. dims: 2 or 3. width: channels at full
    resolution. doublings: how many times resolution is halved. Raises CoopsegError for other dims.

    >>> import torch
    >>> Refiner(classes=3, dims=3, width=4, doublings=2)(torch.rand(1, 3, 8, 16, 16)).shape
    torch.Size([1, 3, 8, 16, 16])
    """

    def __init__(self, classes: int, *, dims: int = 2, width: int = 8, doublings: int = 3) -> None:
        super().__init__()
        _check_dims(dims)
        widths = [width << step for step in range(doublings + 1)]
        self.encoder = nn.Sequential(
            block(dims, classes, width),
            *(block(dims, a, b, stride=2) for a, b in pairwise(widths)),
        )
        self.decoder = Upsampler(dims, inputs=widths[-1], outputs=classes, doublings=doublings, least=width)

    def forward(self, probabilities: Tensor) -> Tensor:
        """Returns logits of the shape of the probabilities."""
        return self.decoder(self.encoder(probabilities), probabilities.shape[2:])


def block(dims: int, inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """Returns convolution, instance normalisation and LeakyReLU; `stride` 2 halves the resolution."""
    convolution = CONVOLUTIONS[dims](inputs, outputs, 3, stride, 1)
    return nn.Sequential(convolution, NORMS[dims](outputs, affine=True), nn.LeakyReLU(0.2))


def _check_dims(dims: int) -> None:
    if dims not in CONVOLUTIONS:
        raise CoopsegError(f"dims={dims!r}: networks are 2-D or 3-D")
