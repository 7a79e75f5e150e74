"""Measures and changes the style of features: the mean and deviation of each channel of each sample.

MixStyle, DSU and MaxStyle share this (Zhou et al. 2021, "Domain generalization with MixStyle", section 2;
Li et al. 2022, "Uncertainty modeling for out-of-distribution generalization", section 3). Deviations are
standard deviations: that of a channel divides by the number of its pixels, the spread over a batch of B
images by B - 1, since a batch is a small sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from coopseg.errors import CoopsegError
from coopseg.training.ledger import Ledger
from coopseg.training.losses import wide
from coopseg.training.passes import Passes
from coopseg.training.rival import Batch, Rival

EPSILON = 1e-6  # added to a variance


@dataclass(frozen=True, eq=False)
class Style:
    """Holds mean and deviation, (B, C, 1, 1) each, in float32 at least."""

    mean: Tensor
    deviation: Tensor

    def __add__(self, other: Style) -> Style:
        return Style(self.mean + other.mean, self.deviation + other.deviation)

    def __mul__(self, factors: Style) -> Style:
        return Style(self.mean * factors.mean, self.deviation * factors.deviation)


def style_of(features: Tensor) -> Style:
    """Returns the style of (B, C, H, W)."""
    values = wide(features)
    mean = values.mean((2, 3), keepdim=True)
    # takes half the time of torch.var_mean in channels_last; no gradient of a variance flows through its mean
    variance = (values - mean.detach()).square().mean((2, 3), keepdim=True)
    return Style(mean, (variance + EPSILON).sqrt())


def restyle(features: Tensor, own: Style, wanted: Style) -> Tensor:
    """Returns the features, normalised by their `own` style, in the `wanted` style and in the same type."""
    factor = wanted.deviation / own.deviation
    return (features * factor + (wanted.mean - own.mean * factor)).to(features.dtype)


def mix(style: Style, partner: Tensor, share: Tensor) -> Style:
    """Returns share × a sample's style + (1 - share) × its partner's. partner: (B,) int64. share: (B,)."""
    part = share.view(-1, 1, 1, 1)
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


class StyleRival(Rival):
    """Trains on the clean image, with other styles inside of the image encoder; the base of style methods.

    The styled codes go on to CE(p, y), ½ MSE(x', x) and CE(C(p), y). `sample` returns the draws of each
    styled layer.
    """

    layers: ClassVar[tuple[str, ...]]

    def style(self, features: Tensor, drawn: Any) -> Tensor:
        """Returns features (B, C, H, W) of a layer in the style that its draws describe."""
        raise NotImplementedError

    def add(self, passes: Passes, batch: Batch, drawn: dict[str, Any], ledger: Ledger) -> None:
        """Runs the pass; no noise is added to the image."""

        def after(layer: str, features: Tensor) -> Tensor:
            return self.style(features, drawn[layer]) if layer in drawn else features

        passes.ftn(
            batch.truth.image,
            batch.truth,
            ledger,
            joint=batch.joint,
            prefix=f"{self.name}_",
            scale=passes.settings.losses.hard,
            encode=lambda image: passes.networks.image_encoder(image, after=after),
        )
