"""Draws and applies the operations of image augmentations, each image of (B, C, H, W) by its own draws.

Geometric operations are one map that image, target and label share. Operations on intensities are pure
functions; those that say so need images that fill [0, 1]. Beyond the border an image continues with its edge;
only `blur` cuts off its kernel there.

A B-spline surface is uniform and cubic, with a grid of control points. At every point the splines are
non-negative and sum to 1, so a surface stays within its control points' range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.settings import AugmentationSettings
from coopseg.training.augmentation import Augmentation, sample_augmentation, source_points
from coopseg.training.losses import rescale_slices
from coopseg.training.rival import like

LEAST = 0.1  # pixels: a Gaussian of this width leaves an image as it is

# (number, strength) of each image of a batch that an operation changes. These are known on the CPU, so that
# the other images cost nothing.
Some = tuple[tuple[int, float], ...]

Range = tuple[float, float]


def perhaps(
    p: float, *ranges: Range, otherwise: float, batch: int, generator: torch.Generator | None
) -> Tensor:
    """Draw (batch,) values: with probability p uniform in a range picked at random, else `otherwise`."""
    chosen = torch.rand(batch, generator=generator) < p
    part = len(ranges) * torch.rand(batch, generator=generator)
    which = part.long()
    low, high = torch.tensor(ranges, dtype=part.dtype)[which].unbind(1)
    return torch.where(chosen, low + (high - low) * (part - which), otherwise)


def around_one(values: Range) -> tuple[Range, Range]:
    """Split a range at 1, for a factor that is as likely to be below as above."""
    low, high = values
    return (low, 1.0), (1.0, high)


def still_map(image: Tensor, sigma: tuple[float, float], generator: torch.Generator | None) -> Augmentation:
    """Draw, on the CPU, a map for images (B, C, H, W) that moves nothing until its values are replaced.

    sigma: range of the smoothness of its elastic field, pixels.
    """
    height, width = image.shape[2:]
    low, high = (value / min(height, width) for value in sigma)
    still = AugmentationSettings(
        pad=1, flip=0, intensity=0, shift=0, rotation=0, zoom=(1, 1), rotate45=0, elastic=0,
        elastic_sigma=(low, high),
    )  # fmt: skip
    return sample_augmentation(len(image), (height, width), still, generator)


def warp(images: Tensor, label: Tensor, params: Augmentation) -> tuple[Tensor, Tensor]:
    """Warp images (B, C, H, W) linearly and labels (B, H, W) by nearest neighbour; edges are repeated."""
    height, width = images.shape[2:]
    # bf16 holds coordinates to half a pixel only
    with torch.autocast(images.device.type, enabled=False):
        x, y = source_points(params, (height, width))
        grid = torch.stack([x * (2 / width), y * (2 / height)], -1).to(images.dtype)
        marks = label[:, None].to(images.dtype)  # holds class indices exactly; grid_sample takes no integers
        moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        marked = F.grid_sample(marks, grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved, marked[:, 0].to(label.dtype)


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


SPLINES = 4  # number of cubic splines that reach a point


def covered(start: Tensor, length: Tensor, size: torch.Size) -> Tensor:
    """Mark the pixels of `size` that each window covers: (B, N, H, W) bool.

    start, length: (B, N, 2), rows then columns.
    """

    def along(axis: int) -> Tensor:
        pixels = torch.arange(size[axis], device=start.device)
        first = start[..., axis, None]
        return (pixels >= first) & (pixels < first + length[..., axis, None])

    return along(0)[..., None] & along(1)[..., None, :]


def control_points(spacing: float) -> int:
    """Returns how many splines reach into the image along an axis: one per segment, and three more."""
    return math.ceil(1 / spacing) + SPLINES - 1


def spline_surface(points: Tensor, size: Sequence[int], spacing: float) -> Tensor:
    """Returns the surface at the middles of the pixels, (B, 1, *size), for control points (B, 1, n, n).

    spacing: distance of control points, as a fraction of the image's side. n is `control_points(spacing)`.
    """
    rows, columns = (spline_basis(side, spacing).to(points) for side in size)
    # bf16 would turn smooth changes into steps
    with torch.autocast(points.device.type, enabled=False):
        return rows @ points @ columns.mT


def spline_basis(side: int, spacing: float) -> Tensor:
    """Returns uniform cubic B-splines at the middles of `side` pixels: (side, control points), rows sum to 1.

    Knots lie at the multiples of `spacing`, a fraction of the side, in and beyond the image.
    """
    segments = (torch.arange(side, dtype=torch.float64) + 0.5) / (side * spacing)
    # the middle of spline k is k - 1 segments from the image's border
    distance = (segments[:, None] - torch.arange(-1, control_points(spacing) - 1)).abs()
    near = 2 / 3 - distance.square() + distance.pow(3) / 2
    far = (2 - distance).clamp_min(0).pow(3) / 6
    return torch.where(distance < 1, near, far)


@dataclass(frozen=True, eq=False)
class Spot:
    """Describes a Gaussian in or near each image, by strength (B,) and centre and width, (B, 2) each.

    centre and width are in pixels, rows then columns.
    """

    centre: Tensor
    width: Tensor
    strength: Tensor


@dataclass(frozen=True, eq=False)
class Blanks:
    """Describes N windows per image. start, length: (B, N, 2). present: (B, N) bool, which windows count."""

    start: Tensor
    length: Tensor
    present: Tensor


def sample_spot(image: Tensor, strength: Tensor, generator: torch.Generator | None) -> Spot:
    """Draw spots of `strength` (B,), each with a centre at most half a side beyond the image.

    The widths along both axes are between a sixth of the side and all of it, uniform on a logarithmic scale.
    """
    sides = torch.tensor(image.shape[2:])
    centre = sides * (2 * torch.rand(len(image), 2, generator=generator) - 0.5)
    width = sides * torch.exp(-math.log(6) * torch.rand(len(image), 2, generator=generator))
    return Spot(*(like(drawn, image) for drawn in (centre, width, strength)))


def sample_blanks(
    image: Tensor, number: Tensor, most: int, sides: tuple[float, float], generator: torch.Generator | None
) -> Blanks:
    """Draw `number` (B,) windows per image, at most `most`.

    sides: least and greatest side of a window, as fractions of the image's.
    """
    size = torch.tensor(image.shape[2:])
    least, longest = ((size * part).long().clamp_min(1) for part in sides)

    def uniform() -> Tensor:
        return torch.rand(len(image), most, 2, generator=generator)

    length = least + (uniform() * (longest - least + 1)).long()
    start = (uniform() * (size - length + 1)).long()
    present = torch.arange(most) < number[:, None]
    return Blanks(*(drawn.to(image.device, non_blocking=True) for drawn in (start, length, present)))


def spot_map(spot: Spot, size: torch.Size) -> Tensor:
    """Evaluate the Gaussians and scale each to [0, 1] over its image: (B, 1, H, W)."""

    def along(axis: int) -> Tensor:
        pixels = torch.arange(size[axis], device=spot.centre.device)
        exponent = -0.5 * ((pixels - spot.centre[:, axis, None]) / spot.width[:, axis, None]).square()
        return torch.exp(exponent - exponent.amax(1, keepdim=True))  # 1 at the nearest pixel

    return rescale_slices((along(0)[:, :, None] * along(1)[:, None])[:, None])


def shade(image: Tensor, spot: Spot) -> Tensor:
    """Add the spot, at its peak `strength` standard deviations of the image; nothing is clipped."""
    return image + pixelwise(spot.strength) * deviation(image) * spot_map(spot, image.shape[2:])


def local_gamma(image: Tensor, spot: Spot) -> Tensor:
    """Raise images that fill [0, 1] to the power of `strength`; the effect fades out with the spot."""
    return torch.lerp(image, image ** pixelwise(spot.strength), spot_map(spot, image.shape[2:]))


def blank(image: Tensor, drawn: Blanks) -> Tensor:
    """Fill one window after the other with its mean."""
    windows = covered(drawn.start, drawn.length, image.shape[2:]) & drawn.present[..., None, None]
    for inside in windows.unsqueeze(2).unbind(1):
        mean = (image * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp_min(1)
        image = torch.where(inside, mean, image)
    return image
