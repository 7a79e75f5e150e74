"""Defines the segmentation, shape and image decoder (Chen et al. 2021, section 2.1; no skip connections)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coopseg.networks.blocks import TransposedUpBlock, UpBlock
from coopseg.networks.encoder import After, unchanged


class Decoder(nn.Module):
    """Decodes a code (B, 8 width, h, w) to (B, outputs, 16 h, 16 w).

    A label decoder gives logits; an image decoder upsamples with learned weights and ends in a sigmoid.
    """

    LAYERS = ("up1", "up2", "up3", "up4")

    def __init__(self, outputs: int, width: int, *, image: bool = False, running: bool = False) -> None:
        super().__init__()
        block = TransposedUpBlock if image else UpBlock
        self.up1 = block(8 * width, 4 * width, running=running)
        self.up2 = block(4 * width, 2 * width, running=running)
        self.up3 = block(2 * width, width, running=running)
        self.up4 = block(width, width, running=running)
        self.out = nn.Conv2d(width, outputs, 1)
        self.image = image

    def forward(self, code: Tensor, after: After = unchanged) -> Tensor:
        """Returns logits, or an image in (0, 1).

        after: is called as after(layer, features) on the features of each of LAYERS and, as layer "out", on
        the result; it returns what replaces them.
        """
        x = code
        for layer in self.LAYERS:
            x = after(layer, getattr(self, layer)(x))
        x = self.out(x)
        return after("out", torch.sigmoid(x) if self.image else x)
