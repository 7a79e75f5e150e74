"""Implements BigAug: nine stacked image operations, each with a probability (Zhang et al., TMI 2020).

Their order is: sharpen, blur, noise, brightness (shift), contrast (gamma), intensity perturbation (scale and
shift), rotation, scale, deformation. The paper gives the operations, their order and their ranges, for 3-D
scans. This project chose the rest, where the paper leaves it open or a slice needs something else:

- the unsharp mask is f + strength · (f - G(f)) with f = G'(x); G and G' are Gaussians of 0.5 and 1 pixel;
- the published noise, 0.1 to 1.0, has no stated scale. In 255ths of the image's range it would be invisible,
  in standard deviations of the image it would drown the heart. Here the unit is a tenth of the range, so that
  the noise is 0.01 to 0.1 of it;
- intensities are clipped to [0, 1] before the contrast and at the end; otherwise the scaling of a slice to
  [0, 1] would undo brightness and perturbation;
- rotation is in the plane, scale is the same on both axes, and all geometric operations form one map, so that
  a slice is interpolated once. Image, target and label take the same map; the target is then scaled to [0, 1]
  per slice, as every image of a training is;
- the published deformation is noise of the given strength, smoothed in a volume. In a slice its displacements
  have a standard deviation of strength / √3 / (4 π sigma²)^¾ pixels. Smoothing in the plane alone would make
  them √(√(4 π) sigma) times (six times) larger and tear the image; the strength is divided by that factor.

In the paper the augmented pass is the training pass itself, so BatchNorm records and learns in it ("shared").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from coopseg.config.rivals import BigAugSettings
from coopseg.networks.cooperative import StepNetworks
from coopseg.rivals.operations import Range, blur, perhaps, pixelwise, still_map, warp
from coopseg.training.augmentation import Augmentation
from coopseg.training.losses import rescale_slices
from coopseg.training.passes import Truth
from coopseg.training.rival import Batch, Example, ImageRival, like

MASK, SMOOTHED = 0.5, 1.0  # pixels: widths of the unsharp mask's Gaussians G and G'


@dataclass(frozen=True, eq=False)
class Draws:
    """Holds the draws for a batch (B, C, H, W); operations not chosen have values without effect."""

    sharpen: Tensor  # (B,): strength, 0 for none
    blur: Tensor  # (B,): standard deviation in pixels, 0 for none
    noise: Tensor  # (B, C, H, W): added
    brightness: Tensor  # (B,): added
    gamma: Tensor  # (B,): exponent
    factor: Tensor  # (B,): factor of the perturbation
    shift: Tensor  # (B,): added after the factor
    map: Augmentation  # rotation, scale and deformation


class BigAug(ImageRival):
    """Trains on images augmented by BigAug, as the module's docstring describes."""

    name = "bigaug"
    norm = "shared"
    settings: BigAugSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Draws:
        """Draws the parameters of all nine operations."""
        chosen, batch = self.settings, len(image)

        def draw(limits: Range, otherwise: float = 0) -> Tensor:
            drawn = perhaps(chosen.p, limits, otherwise=otherwise, batch=batch, generator=generator)
            return like(drawn, image)

        normal = like(torch.randn(image.shape, generator=generator), image)
        # factor and shift of the perturbation are chosen together
        limit = draw((chosen.perturbation, chosen.perturbation))
        tilt = limit * like(torch.empty(2, batch).uniform_(-1, 1, generator=generator), image)
        return Draws(
            sharpen=draw(chosen.sharpen),
            blur=draw(chosen.blur),
            noise=pixelwise(draw(chosen.noise)) * normal,
            brightness=draw((-chosen.brightness, chosen.brightness)),
            gamma=draw(chosen.gamma, otherwise=1),
            factor=1 + tilt[0],
            shift=tilt[1],
            map=self._sample_map(image, generator).to(image.device),
        )

    def apply(self, batch: Batch, drawn: Draws, networks: StepNetworks) -> Example:
        """Returns the altered, warped image; its targets are the clean image and label, warped alike."""
        truth = batch.truth
        # bf16 would turn smooth changes into steps
        with torch.autocast(truth.image.device.type, enabled=False):
            altered = alter(truth.image, drawn)
        both, label = warp(torch.cat([altered, truth.image], 1), truth.label, drawn.map)
        inputs, image = both.chunk(2, 1)
        return Example(inputs, Truth(rescale_slices(image), label))

    def _sample_map(self, image: Tensor, generator: torch.Generator | None) -> Augmentation:
        """Draws each geometric operation independently; flips and shifts are not among the nine."""
        chosen = self.settings
        still = still_map(image, chosen.deformation, generator)

        draw = partial(perhaps, chosen.p, batch=len(image), generator=generator)
        angle = draw((-chosen.rotation, chosen.rotation), otherwise=0)
        zoom = (1 / draw(chosen.scale, otherwise=1))[:, None].expand(
            -1, 2
        )  # the map goes from output to input
        through_plane = (math.sqrt(4 * math.pi) * still.sigma).sqrt()
        alpha = draw(chosen.deformation_strength, otherwise=0) / through_plane
        return replace(still, angle=angle, zoom=zoom, alpha=alpha)


def alter(image: Tensor, drawn: Draws) -> Tensor:
    """Applies the six intensity operations to images (B, C, H, W) in [0, 1]; keeps shape and range."""
    smoothed = blur(image, torch.full_like(drawn.blur, SMOOTHED))
    edges = smoothed - blur(smoothed, torch.full_like(drawn.blur, MASK))
    strength = pixelwise(drawn.sharpen)
    x = torch.where(strength > 0, smoothed + strength * edges, image)
    x = blur(x, drawn.blur) + drawn.noise + pixelwise(drawn.brightness)
    x = x.clamp_(0, 1) ** pixelwise(drawn.gamma)
    return (x * pixelwise(drawn.factor) + pixelwise(drawn.shift)).clamp_(0, 1)
