"""Implements MixStyle and DSU, which change the style of features, and what MaxStyle shares with them.

The style of features is the mean and deviation of each channel of each sample. MixStyle mixes it with that of
another sample (Zhou et al., "Domain generalization with MixStyle", ICLR 2021, section 2). DSU adds Gaussian
noise to it, whose standard deviation is that of the style over the batch (Li et al., "Uncertainty modeling
for out-of-distribution generalization", ICLR 2022, section 3). Deviations are standard deviations: that of a
channel divides by the number of its pixels, the spread over a batch of B images by B - 1, since a batch is a
small sample.

In both papers the styled pass is the training pass itself, so BatchNorm records and learns in it ("shared").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from coopseg.config.rivals import DsuSettings, MixStyleSettings
from coopseg.errors import CoopsegError
from coopseg.training.losses import Ledger, wide
from coopseg.training.passes import Passes
from coopseg.training.rival import Batch, Rival, like, own_networks

EPSILON = 1e-6  # added to a variance


@dataclass(frozen=True, eq=False)
class Style:
    """Holds mean and deviation, (B, C, 1, 1) each, with as many 1 as spatial axes, in float32 at least."""

    mean: Tensor
    deviation: Tensor

    def __add__(self, other: Style) -> Style:
        return Style(self.mean + other.mean, self.deviation + other.deviation)

    def __mul__(self, factors: Style) -> Style:
        return Style(self.mean * factors.mean, self.deviation * factors.deviation)


def style_of(features: Tensor) -> Style:
    """Returns the style of (B, C, *spatial)."""
    values, places = wide(features), tuple(range(2, features.ndim))
    mean = values.mean(places, keepdim=True)
    # takes half the time of torch.var_mean in channels_last; no gradient of a variance flows through its mean
    variance = (values - mean.detach()).square().mean(places, keepdim=True)
    return Style(mean, (variance + EPSILON).sqrt())


def restyle(features: Tensor, own: Style, wanted: Style) -> Tensor:
    """Returns the features, normalised by their `own` style, in the `wanted` style and in the same type."""
    factor = wanted.deviation / own.deviation
    return (features * factor + (wanted.mean - own.mean * factor)).to(features.dtype)


def mix(style: Style, partner: Tensor, share: Tensor) -> Style:
    """Returns share × a sample's style + (1 - share) × its partner's. partner: (B,) int64. share: (B,)."""
    part = share.view(-1, *[1] * (style.mean.ndim - 1))
    mixed = (part * own + (1 - part) * own[partner] for own in (style.mean, style.deviation))
    return Style(*mixed)


def spread(style: Style) -> Style:
    """Returns how much mean and deviation vary over the batch: their standard deviations, (1, C, 1, 1).

    Raises CoopsegError for a batch of one image.
    """
    if len(style.mean) < 2:
        raise CoopsegError("a batch of 1 image has no spread of styles: give two images a step, or more")
    variances = (own.var(0, correction=1, keepdim=True) for own in (style.mean, style.deviation))
    return Style(*((variance + EPSILON).sqrt() for variance in variances))


def sample_layers(layers: tuple[str, ...], p: float, generator: torch.Generator | None) -> frozenset[str]:
    """Draws the layers that are styled, each with probability p."""
    chosen = torch.rand(len(layers), generator=generator) < p
    return frozenset(layer for layer, use in zip(layers, chosen.tolist(), strict=True) if use)


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


def sample_mix(features: Tensor, alpha: float, generator: torch.Generator | None) -> Mix:
    """Draws partner and λ ~ Beta(alpha, alpha) for each sample of `features` (B, ...)."""
    batch = len(features)
    partner = torch.randperm(batch, generator=generator).to(features.device, non_blocking=True)
    return Mix(partner, like(sample_beta(alpha, batch, generator).to(features.dtype), features))


def mix_styles(features: Tensor, drawn: Mix) -> Tensor:
    """Returns features in a mix of their own and their partner's style; no gradient flows through styles."""
    own = style_of(features.detach())
    return restyle(features, own, mix(own, drawn.partner, drawn.share))


def sample_noise(channels: int, image: Tensor, generator: torch.Generator | None) -> Style:
    """Draws standard normal noise for mean and deviation of every channel of every sample of `image`."""
    shape = len(image), channels, *[1] * (image.ndim - 2)
    return Style(*like(torch.randn(2, *shape, generator=generator), image))


def disturb_style(features: Tensor, noise: Style) -> Tensor:
    """Returns features whose style has noise, in units of its spread; gradient flows through it."""
    own = style_of(features)
    return restyle(features, own, own + noise * spread(own))


class StyleRival(Rival):
    """Trains on the clean image, with other styles inside of the image encoder; the base of style methods.

    The styled codes go on to CE(p, y), ½ MSE(x', x) and CE(C(p), y). `sample` returns the draws of each
    styled layer. style: maps features (B, C, H, W) of a layer and its draws to styled features.
    """

    layers: ClassVar[tuple[str, ...]]

    style: Callable[[Tensor, Any], Tensor]

    def add(self, passes: Passes, batch: Batch, drawn: Mapping[str, Mix | Style], ledger: Ledger) -> None:
        """Runs the pass; no noise is added to the image."""
        networks = own_networks(passes.networks, self.name)

        def after(layer: str, features: Tensor) -> Tensor:
            return self.style(features, drawn[layer]) if layer in drawn else features

        self.hard_pass(
            passes, batch, batch.truth.image, ledger, encode=lambda image: networks.encode(image, after)
        )


class MixStyle(StyleRival):
    """Mixes feature styles within a batch."""

    name = "mixstyle"
    norm = "shared"
    layers = ("stem", "down1", "down2")
    settings: MixStyleSettings
    style = staticmethod(mix_styles)

    def sample(self, image: Tensor, code: Sequence[int], generator: torch.Generator | None) -> dict[str, Mix]:
        """Draws partner and λ of every sample, for each layer that is styled."""
        chosen = sample_layers(self.layers, self.settings.p, generator)
        drawn = {layer: sample_mix(image, self.settings.alpha, generator) for layer in self.layers}
        return {layer: drawn[layer] for layer in self.layers if layer in chosen}


class Dsu(StyleRival):
    """Adds noise to feature styles."""

    name = "dsu"
    norm = "shared"
    # channels of the image encoder's layers, as multiples of its width
    widths: ClassVar[dict[str, int]] = {"stem": 1, "down1": 2, "down2": 4, "down3": 8, "down4": 8, "head": 8}
    layers = tuple(widths)
    settings: DsuSettings
    style = staticmethod(disturb_style)

    def sample(
        self, image: Tensor, code: Sequence[int], generator: torch.Generator | None
    ) -> dict[str, Style]:
        """Draws the noise of mean and deviation, in units of their spread, for each layer that is styled."""
        width = code[1] // self.widths["head"]
        chosen = sample_layers(self.layers, self.settings.p, generator)
        drawn = {
            layer: sample_noise(factor * width, image, generator) for layer, factor in self.widths.items()
        }
        return {layer: drawn[layer] for layer in self.layers if layer in chosen}
