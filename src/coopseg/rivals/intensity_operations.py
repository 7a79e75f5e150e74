"""Changes the intensities of images (B, C, H, W), each image by its own draws, with pure functions.

Functions that say so need images that fill [0, 1]. Beyond the border an image continues with its edge; only
`blur` cuts off its kernel there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 0.1  # pixels: a Gaussian of this width leaves an image as it is

# (number, strength) of each image of a batch that an operation changes. These are known on the CPU, so that
# the other images cost nothing.
Some = tuple[tuple[int, float], ...]


def pixelwise(draws: Tensor) -> Tensor:
    """Shape draws (B,) as (B, 1, 1, 1)."""
    return draws.view(-1, 1, 1, 1)


def deviation(image: Tensor) -> Tensor:
    """Measure the standard deviation of the intensities of each image: (B, 1, 1, 1)."""
    return image.std((1, 2, 3), keepdim=True)


def blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Blur by Gaussians of `sigma` (B,) pixels; at the border the kernel is cut off."""

    def matrix(side: int) -> Tensor:
        pixels = torch.arange(side, device=sigma.device, dtype=sigma.dtype)
        width = sigma.clamp_min(LEAST)[:, None, None]
        weights = torch.exp(-0.5 * ((pixels - pixels[:, None]) / width).square())
        return (weights / weights.sum(2, keepdim=True))[:, None]

    rows, columns = (matrix(side) for side in image.shape[2:])
    return rows @ image @ columns.mT


def sharpen(image: Tensor, strength: Tensor) -> Tensor:
    """Add `strength` (B,) times (4 × pixel - sum of its four neighbours), and clip to the image's range."""
    around = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows, columns = around[..., 1:-1], around[..., 1:-1, :]
    neighbours = rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]
    sharper = image + pixelwise(strength) * (4 * image - neighbours)
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return sharper.minimum(high).maximum(low)


def brighten(image: Tensor, strength: Tensor) -> Tensor:
    """Brighten images that fill [0, 1] by `strength` (B,) times their standard deviation, and clip."""
    return (image + pixelwise(strength) * deviation(image)).clamp(0, 1)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance of images that fill [0, 1] to their mean by `factor` (B,), and clip."""
    mean = image.mean((1, 2, 3), keepdim=True)
    return ((image - mean) * pixelwise(factor) + mean).clamp(0, 1)


def gamma(image: Tensor, exponent: Tensor, *, inverted: bool = False) -> Tensor:
    """Raise images that fill [0, 1], or with `inverted` their negatives, to the power of `exponent` (B,)."""
    return 1 - (1 - image) ** pixelwise(exponent) if inverted else image ** pixelwise(exponent)


def median(image: Tensor, sizes: Some) -> Tensor:
    """Replace each pixel by the median of a square around it; an even square has one more pixel before it."""
    found = image.clone()
    for number, size in sizes:
        side = int(size)
        before, after = side // 2, side - side // 2 - 1
        around = F.pad(image[number, :, None], (before, after, before, after), mode="replicate")
        squares = F.unfold(around, side).sort(1).values[:, side * side // 2]
        found[number] = squares.view_as(image[number])
    return found


def low_resolution(image: Tensor, zooms: Some) -> Tensor:
    """Keep a share of each side's pixels, by nearest neighbour, and interpolate cubically between them."""
    found = image.clone()
    for number, zoom in zooms:
        size = image.shape[2:]
        small = [max(1, round(side * zoom)) for side in size]
        coarse = F.interpolate(image[number, None], small, mode="nearest-exact")
        found[number] = F.interpolate(coarse, size, mode="bicubic", align_corners=False)[0]
    return found
