"""Marks or weights parts of images (B, C, H, W) by windows, spots and splines, and changes these parts.

A B-spline surface is uniform and cubic, with a grid of control points. At every point the splines are
non-negative and sum to 1, so a surface stays within its control points' range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.rivals.operations import deviation, pixelwise
from coopseg.training.losses import rescale_slices
from coopseg.training.rival import like

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
