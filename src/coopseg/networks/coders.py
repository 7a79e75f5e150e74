"""Defines encoder, decoupler and decoder (Chen et al. 2021, section 2.1).

As published no skip connections join them. A decoder may read the encoder's features at 1/8 and 1/4
resolution too, but never finer ones, where artefacts and a scanner's own texture show.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.networks.blocks import SLOPE, DownBlock, TransposedUpBlock, UpBlock, convolve_and_normalise
from coopseg.networks.norm import EPSILON, Norm, norms

After = Callable[[str, Tensor], Tensor]


def unchanged(layer: str, features: Tensor) -> Tensor:
    """Returns the features as they are."""
    return features


class Stem(nn.Module):
    """Applies two 3×3 convolutions at full resolution: (B, inputs, H, W) -> (B, width, H, W)."""

    def __init__(self, inputs: int, width: int, *, running: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.norm1 = Norm(width, running=running)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = Norm(width, running=running)

    def forward(self, x: Tensor) -> Tensor:
        """Returns features at full resolution."""
        x = convolve_and_normalise(self.conv1, self.norm1, x)
        return convolve_and_normalise(self.conv2, self.norm2, x)


def scan_stem(stem: Stem, k: float) -> Stem:
    """Returns a copy of `stem` in evaluation mode that normalises a volume partly by its own statistics.

    k: the `scan_statistics` of its norms (after Schneider et al. 2020, NeurIPS). Only the stem does so. What
    a scanner does to intensities (noise, contrast, a bias field) shows in the statistics of the first layers;
    those of deeper layers also tell how much of the heart a scan shows, and that must not be normalised away.
    docs/research.md says what all layers lose.

    Weights and running statistics are shared with `stem`, so they follow its training. The copy expects whole
    volumes. Several threads may use it at once: k is the same for all volumes, and each layer counts the
    slices that it is given.
    """
    shared = {id(tensor): tensor for tensor in (*stem.parameters(), *stem.buffers())}
    found = copy.deepcopy(stem, shared).eval()
    for norm in norms(found):
        norm.scan_statistics = k
    return found


class ExportedStem(nn.Module):
    """Computes what `scan_stem` does as one graph for any number of slices, as ONNX needs it."""

    def __init__(self, stem: Stem, k: float) -> None:
        super().__init__()
        self.stem = stem
        self.k = k

    def forward(self, image: Tensor) -> Tensor:
        """Maps the slices of one volume, (B, inputs, H, W), to features (B, width, H, W)."""
        stem = self.stem
        x = self._normalise(stem.conv1(image), stem.norm1)
        return self._normalise(stem.conv2(x), stem.norm2)

    def _normalise(self, x: Tensor, norm: Norm) -> Tensor:
        slices = torch.ones_like(x[:, 0, 0, 0]).sum()  # len(x) would be a constant of the graph
        share = slices / (slices + self.k)
        own = x.mean((0, 2, 3))
        apart = (x - own[:, None, None]).square().mean((0, 2, 3))
        mean = norm.running_mean + share * (own - norm.running_mean)
        variance = norm.running_var + share * (apart - norm.running_var)
        factor = norm.weight * (variance + EPSILON).rsqrt()
        y = (x - mean[:, None, None]) * factor[:, None, None] + norm.bias[:, None, None]
        return F.leaky_relu(y, SLOPE)


class Head(nn.Module):
    """Applies a 1×1 convolution, norm and ReLU, so that codes are never negative."""

    def __init__(self, channels: int, *, running: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.norm = Norm(channels, running=running)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, channels, h, w) to the same shape, at least 0."""
        return convolve_and_normalise(self.conv, self.norm, x, slope=0)


class Decoupler(nn.Module):
    """Maps the image code to the shape code (H); both are (B, channels, h, w) and at least 0.

    >>> import torch
    >>> Decoupler(16)(torch.rand(2, 16, 4, 4)).shape
    torch.Size([2, 16, 4, 4])
    """

    def __init__(self, channels: int, *, running: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = Norm(channels, running=running)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = Norm(channels, running=running)

    def forward(self, image_code: Tensor) -> Tensor:
        """Returns the shape code z_s = H(z_i)."""
        x = convolve_and_normalise(self.conv1, self.norm1, image_code)
        return convolve_and_normalise(self.conv2, self.norm2, x, slope=0)


class Encoder(nn.Module):
    """Encodes (B, inputs, H, W), H and W multiples of 16, as (B, 8 width, H/16, W/16), at least 0.

    running: the norms use running statistics in training mode too.

    >>> import torch
    >>> Encoder(inputs=1, width=2)(torch.rand(2, 1, 64, 64)).shape
    torch.Size([2, 16, 4, 4])
    """

    LAYERS = ("stem", "down1", "down2", "down3", "down4", "head")
    SKIPS = ("down3", "down2")  # what a decoder with skip connections reads, the coarsest first

    def __init__(self, inputs: int, width: int, *, running: bool = False) -> None:
        super().__init__()
        self.stem = Stem(inputs, width, running=running)
        self.down1 = DownBlock(width, 2 * width, running=running)
        self.down2 = DownBlock(2 * width, 4 * width, running=running)
        self.down3 = DownBlock(4 * width, 8 * width, running=running)
        self.down4 = DownBlock(8 * width, 8 * width, running=running)
        self.head = Head(8 * width, running=running)

    def forward(self, x: Tensor, after: After = unchanged) -> Tensor:
        """Returns the code of x; after(layer, features) may replace the features of each of LAYERS."""
        return self.after_stem(after("stem", self.stem(x)), after)

    def after_stem(self, features: Tensor, after: After = unchanged) -> Tensor:
        """Returns the code for the stem's features, (B, width, H, W)."""
        for layer in self.LAYERS[1:]:
            features = after(layer, getattr(self, layer)(features))
        return features


class Decoder(nn.Module):
    """Decodes a code (B, 8 width, h, w) to (B, outputs, 16 h, 16 w).

    A label decoder gives logits; an image decoder upsamples with learned weights and ends in a sigmoid.
    skips: whether it reads the features of the encoder's SKIPS too, through a 1×1 convolution each.
    running: the norms use running statistics in training mode too.

    >>> import torch
    >>> Decoder(outputs=4, width=2)(torch.rand(2, 16, 4, 4)).shape
    torch.Size([2, 4, 64, 64])
    """

    LAYERS = ("up1", "up2", "up3", "up4")

    def __init__(
        self, outputs: int, width: int, *, image: bool = False, skips: bool = False, running: bool = False
    ) -> None:
        super().__init__()
        block = TransposedUpBlock if image else UpBlock
        self.up1 = block(8 * width, 4 * width, running=running)
        self.up2 = block(4 * width, 2 * width, running=running)
        self.up3 = block(2 * width, width, running=running)
        self.up4 = block(width, width, running=running)
        self.out = nn.Conv2d(width, outputs, 1)
        if skips:
            self.skip1 = nn.Conv2d(8 * width, 4 * width, 1)
            self.skip2 = nn.Conv2d(4 * width, 2 * width, 1)
        self.image = image

    def forward(self, code: Tensor, *skips: Tensor, after: After = unchanged) -> Tensor:
        """Returns logits, or an image in (0, 1).

        skips: the encoder's features of SKIPS, in that order, if the decoder reads them: (B, 8 width, 2h, 2w)
        and (B, 4 width, 4h, 4w). after: is called as after(layer, features) on the features of each of LAYERS
        and, as layer "out", on the result; it returns what replaces them.
        """
        x, left = code, list(skips)
        for layer in self.LAYERS:
            x = getattr(self, layer)(x)
            if left:
                x = x + getattr(self, layer.replace("up", "skip"))(left.pop(0))
            x = after(layer, x)
        x = self.out(x)
        return after("out", torch.sigmoid(x) if self.image else x)
