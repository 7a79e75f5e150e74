"""Implements MixStyle: features get a style between a sample's own and another's (Zhou et al. 2021, ICLR).

In the paper the styled pass is the training pass itself, so BatchNorm records and learns in it ("shared").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.config.rivals import MixStyleSettings
from coopseg.rivals.style import StyleRival, mix, restyle, sample_layers, style_of


@dataclass(frozen=True, eq=False)
class Mix:
    """Holds the draws for a layer. partner: (B,) int64, a permutation. share: (B,) in [0, 1], λ."""

    partner: Tensor
    share: Tensor


def sample_beta(alpha: float, size: int, generator: torch.Generator | None) -> Tensor:
    """Draws (size,) float64 in [0, 1] from Beta(alpha, alpha).

    It is X / (X + Y) of two gamma variates, since torch.distributions takes no generator. It needs float64:
    for a small alpha both variates are often 0 in float32.
    """
    first, second = torch._standard_gamma(
        torch.full((2, size), alpha, dtype=torch.float64), generator=generator
    )
    return first / (first + second)


class MixStyle(StyleRival):
    """Mixes feature styles within a batch. As published, no gradient flows through the statistics."""

    name = "mixstyle"
    norm = "shared"
    layers = ("stem", "down1", "down2")

    def __init__(self, settings: MixStyleSettings) -> None:
        self.settings = settings

    def sample(self, image: Tensor, code: Sequence[int], generator: torch.Generator | None) -> dict[str, Mix]:
        """Draws partner and λ of every sample, for each layer that is styled."""
        batch, alpha = len(image), self.settings.alpha
        chosen = sample_layers(self.layers, self.settings.p, generator)
        drawn = {}
        for layer in self.layers:
            partner = torch.randperm(batch, generator=generator).to(image.device, non_blocking=True)
            share = sample_beta(alpha, batch, generator).to(image.dtype)
            drawn[layer] = Mix(partner, share.to(image.device, non_blocking=True))
        return {layer: drawn[layer] for layer in self.layers if layer in chosen}

    def style(self, features: Tensor, drawn: Mix) -> Tensor:
        """Returns features (B, C, H, W) in a mix of their own and their partner's style."""
        own = style_of(features.detach())
        return restyle(features, own, mix(own, drawn.partner, drawn.share))
