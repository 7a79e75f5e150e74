"""Implements heavy augmentation after nnU-Net's DA5, which its maintainers advise for domain shift.

First rotation, scale, mirroring, quarter turns and elastic deformation are composed into one map that image,
target and label share. Then come, in this order, median filter, blur, noise, brightness, contrast, low
resolution, gamma, gamma of the negative, blank windows, a brightness gradient, a local gamma, sharpening.
Operations, order, ranges and probabilities are DA5's; for an image of one channel, a probability is the one
for a sample times the one for a channel. This project differs:

- DA5's intensities are z-scores and stay as an operation leaves them; here they are scaled to [0, 1] before
  each operation and at the end. Amounts that are added are in units of the slice's own standard deviation,
  which comes to the same. Brightness and contrast are clipped to the slice's range, because the scaling would
  otherwise undo them (DA5 clips half of the contrasts). The scaling does undo a lower contrast;
- elastic deformation, which DA5 names but leaves switched off, is on, as strong as nnU-Net's was in 2-D;
- one gamma acts on the image and one on its negative; DA5 applies both to the negative;
- interpolation is linear, and beyond the image its edge is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from coopseg.config.rivals import HeavySettings
from coopseg.networks.cooperative import StepNetworks
from coopseg.rivals.operations import (
    Blanks,
    Some,
    Spot,
    around_one,
    blank,
    blur,
    brighten,
    contrast,
    deviation,
    gamma,
    local_gamma,
    low_resolution,
    median,
    perhaps,
    sample_blanks,
    sample_spot,
    shade,
    sharpen,
    still_map,
    warp,
)  # fmt: skip
from coopseg.training.augmentation import Augmentation
from coopseg.training.losses import rescale_slices
from coopseg.training.passes import Truth
from coopseg.training.rival import Batch, Example, ImageRival, like


@dataclass(frozen=True, eq=False)
class Draws:
    """Holds the draws for a batch (B, C, H, W); operations not chosen have values without effect."""

    map: Augmentation
    median: Some  # sides of the squares, pixels
    blur: Tensor  # (B,): standard deviation in pixels, 0 for none
    noise: Tensor  # (B, C, H, W): added, in units of the slice's standard deviation
    brightness: Tensor  # (B,): added, in units of the slice's standard deviation
    contrast: Tensor  # (B,): factor
    low_resolution: Some  # shares of the pixels that are kept along each side
    gamma: Tensor  # (B,): exponent
    inverted_gamma: Tensor  # (B,): exponent
    blanks: Blanks
    shade: Spot
    local_gamma: Spot
    sharpen: Tensor  # (B,): strength, 0 for none


class Heavy(ImageRival):
    """Trains on heavily augmented images, as the module's docstring describes."""

    name = "heavy"
    norm = "shared"
    settings: HeavySettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Draws:
        """Draws the parameters of all operations."""
        chosen, batch = self.settings, len(image)
        draw = partial(perhaps, batch=batch, generator=generator)

        def some(drawn: Tensor) -> Some:
            return tuple((number, value) for number, value in enumerate(drawn.tolist()) if value)

        def normal(*shape: int) -> Tensor:
            return torch.randn(batch, *shape, generator=generator)

        def there(drawn: Tensor) -> Tensor:
            return like(drawn, image)

        low, high = chosen.median
        gammas = around_one(chosen.gamma)
        rise, fall = chosen.shade, (-chosen.shade[1], -chosen.shade[0])
        local = chosen.local_gamma_below, chosen.local_gamma_above
        noise = draw(chosen.p_noise, chosen.noise, otherwise=0)
        number = draw(chosen.p_blank, (1, chosen.blanks + 1), otherwise=0).long()
        return Draws(
            map=self._sample_map(image, generator).to(image.device),
            median=some(draw(chosen.p_median, (low, high + 1), otherwise=0).floor()),
            blur=there(draw(chosen.p_blur, chosen.blur, otherwise=0)),
            noise=there(noise.view(-1, 1, 1, 1) * normal(*image.shape[1:])),
            brightness=there(draw(chosen.p_brightness, (1, 1), otherwise=0) * chosen.brightness * normal()),
            contrast=there(draw(chosen.p_contrast, *around_one(chosen.contrast), otherwise=1)),
            low_resolution=some(draw(chosen.p_low_resolution, chosen.low_resolution, otherwise=0)),
            gamma=there(draw(chosen.p_gamma, *gammas, otherwise=1)),
            inverted_gamma=there(draw(chosen.p_inverted_gamma, *gammas, otherwise=1)),
            blanks=sample_blanks(image, number, chosen.blanks, chosen.blank, generator),
            shade=sample_spot(image, draw(chosen.p_shade, rise, fall, otherwise=0), generator),
            local_gamma=sample_spot(image, draw(chosen.p_local_gamma, *local, otherwise=1), generator),
            sharpen=there(draw(chosen.p_sharpen, chosen.sharpen, otherwise=0)),
        )

    def apply(self, batch: Batch, drawn: Draws, networks: StepNetworks) -> Example:
        """Warp image, target and label alike, then alter the image."""
        moved, label = warp(batch.truth.image, batch.truth.label, drawn.map)
        image = rescale_slices(moved)
        # bf16 would turn smooth changes into steps
        with torch.autocast(image.device.type, enabled=False):
            return Example(alter(image, drawn), Truth(image, label))

    def _sample_map(self, image: Tensor, generator: torch.Generator | None) -> Augmentation:
        """Draw each operation with its own probability; nothing is shifted."""
        chosen = self.settings
        draw = partial(perhaps, batch=len(image), generator=generator)
        still = still_map(image, chosen.elastic, generator)
        factors = [draw(1, *around_one(chosen.scale), otherwise=1) for _ in range(2)]
        scaled = draw(chosen.p_scale, (1, 1), otherwise=0).bool()
        angle = draw(chosen.p_rotation, (-chosen.rotation, chosen.rotation), otherwise=0)
        return replace(
            still,
            angle=angle + draw(chosen.p_quarter_turn, (90, 90), otherwise=0),
            zoom=torch.where(scaled[:, None], torch.stack(factors, 1), 1.0),
            flip=torch.stack([draw(chosen.p_mirror, (-1, -1), otherwise=1) for _ in range(2)], 1),
            alpha=draw(chosen.p_elastic, chosen.elastic_strength, otherwise=0),
        )


def alter(image: Tensor, drawn: Draws) -> Tensor:
    """Apply the twelve intensity operations to images (B, C, H, W) that fill [0, 1]."""
    operations = (
        lambda x: median(x, drawn.median),
        lambda x: blur(x, drawn.blur),
        lambda x: x + drawn.noise * deviation(x),
        lambda x: brighten(x, drawn.brightness),
        lambda x: contrast(x, drawn.contrast),
        lambda x: low_resolution(x, drawn.low_resolution),
        lambda x: gamma(x, drawn.gamma),
        lambda x: gamma(x, drawn.inverted_gamma, inverted=True),
        lambda x: blank(x, drawn.blanks),
        lambda x: shade(x, drawn.shade),
        lambda x: local_gamma(x, drawn.local_gamma),
        lambda x: sharpen(x, drawn.sharpen),
    )
    for operation in operations:
        image = operation(rescale_slices(image))
    return image
