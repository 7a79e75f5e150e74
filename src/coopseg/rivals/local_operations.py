"""Changes parts of images (B, C, H, W): adds bright or dark spots, changes contrast, blanks windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.rivals.intensity_operations import deviation, pixelwise
from coopseg.rivals.windows import covered
from coopseg.training.losses import rescale_slices


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
    return Spot(
        *(drawn.to(image.device, image.dtype, non_blocking=True) for drawn in (centre, width, strength))
    )


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
