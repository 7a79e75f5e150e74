"""Normalises the image encoder's stem by the scan's own statistics (after Schneider et al. 2020, NeurIPS).

Only the stem does so: what a scanner does to intensities (noise, contrast, a bias field) shows in the
statistics of the first layers. Statistics of deeper layers also tell how much of the heart a scan shows, and
that must not be normalised away. See docs/research.md for what all layers lose.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.networks.blocks import SLOPE
from coopseg.networks.coders import Stem
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import EPSILON, Norm, norms


def scan_stem(networks: Networks, k: float) -> Stem:
    """Returns the stem of `networks` in evaluation mode with `scan_statistics` k; it expects whole volumes.

    Modules are new; weights and running statistics are shared with `networks`, so they follow its training.
    `networks` stay as they are. Several threads may use the result at once: k is the same for all volumes,
    and each layer counts the slices that it is given.
    """
    stem = networks.image_encoder.stem
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
