"""Implements DSU: statistics become Gaussian, as wide as they vary over the batch (Li et al. 2022, ICLR).

In the paper the styled pass is the training pass itself, so BatchNorm records and learns in it ("shared").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coopseg.config.rivals import DsuSettings
from coopseg.rivals.style import Style, StyleRival, restyle, sample_layers, spread, style_of

# Channels of the image encoder's layers, as multiples of its width.
WIDTHS = {"stem": 1, "down1": 2, "down2": 4, "down3": 8, "down4": 8, "head": 8}


def sample_noise(channels: int, image: Tensor, generator: torch.Generator | None) -> Style:
    """Draws standard normal noise for mean and deviation of every channel of every sample of `image`."""
    noise = torch.randn(2, len(image), channels, 1, 1, generator=generator)
    return Style(*noise.to(image.device, image.dtype, non_blocking=True))


class Dsu(StyleRival):
    """Adds noise to feature statistics. As published, the gradient flows through the statistics too."""

    name = "dsu"
    norm = "shared"
    layers = tuple(WIDTHS)

    def __init__(self, settings: DsuSettings) -> None:
        self.settings = settings

    def sample(
        self, image: Tensor, code: Sequence[int], generator: torch.Generator | None
    ) -> dict[str, Style]:
        """Draws the noise of mean and deviation, in units of their spread, for each layer that is styled."""
        width = code[1] // WIDTHS["head"]
        chosen = sample_layers(self.layers, self.settings.p, generator)
        drawn = {layer: sample_noise(WIDTHS[layer] * width, image, generator) for layer in self.layers}
        return {layer: drawn[layer] for layer in self.layers if layer in chosen}

    def style(self, features: Tensor, drawn: Style) -> Tensor:
        """Returns features (B, C, H, W) with the drawn noise on their mean and deviation."""
        own = style_of(features)
        return restyle(features, own, own + drawn * spread(own))
