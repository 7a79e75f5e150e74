"""Augments the images of a training batch on its device (Chen et al. 2021, section 3).

The order is: flip, contrast and brightness, shift, rotation, zoom, a further rotation by a multiple of 45
degrees, elastic deformation, crop, min-max. All geometric operations are composed into one map from output to
input, so that a slice is interpolated only once. That is sharper and faster, and keeps what leaves the crop
in one operation and returns in the next. The map reads from a canvas that is larger than the crop; beyond the
scan itself, the scan's edge is repeated.

The elastic field is alpha times white noise, uniform in (-1, 1), smoothed by a Gaussian of standard deviation
sigma. Each value is a sum over hundreds of pixels or more, so the field is Gaussian, and its covariance alone
describes it: alpha² / 3 / (4 π sigma²) exp(-r² / (4 sigma²)). Noise on cells of c pixels with 1 / c² of the
variance has the same covariance, as long as a cell is at most sigma / 2 wide (the kernel's spectrum beyond
the cells' Nyquist frequency is below e^-19). So the noise is drawn on such cells, which makes it cheap to
draw, store and replay. The kernel is evaluated from the cells' centres straight at the pixels, with one small
matrix product per axis. Cells go on beyond the image, so the field has no edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.settings import AugmentationSettings
from coopseg.training.losses import rescale_slices


@dataclass(frozen=True, eq=False)
class Augmentation:
    """Holds the draws for a batch of B slices. Lengths are in pixels, pairs in the order (columns, rows)."""

    flip: Tensor  # (B, 2): -1 mirrors the axis, 1 does not
    contrast: Tensor  # (B,): factor on intensities
    brightness: Tensor  # (B,): added to them afterwards
    shift: Tensor  # (B, 2)
    angle: Tensor  # (B,): degrees
    zoom: Tensor  # (B, 2): factor from output to input, so that below 1 the heart grows
    turn: Tensor  # (B,): degrees, a multiple of 45
    crop: Tensor  # (B, 2): how far the crop lies from the middle
    sigma: Tensor  # (B,): standard deviation of the elastic field's smoothing
    alpha: Tensor  # (B,): strength of the elastic field; 0 for none
    noise: Tensor  # (B, 2, rows, columns): standard normal, one value per cell
    cell: float  # side of a cell

    def to(self, device: torch.device | str) -> Augmentation:
        """Returns the same draws on another device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: Any = {name: each.to(device, non_blocking=True) for name, each in tensors.items()}
        return replace(self, **moved)


def padded(size: tuple[int, int], settings: AugmentationSettings) -> tuple[int, int]:
    """Returns a crop's canvas (rows, columns), e.g. 224 for 192; shifts and elastic fields scale with it."""
    # rounded first: 7/6 of 192 is 224 plus a rounding error
    rows, columns = (side + 2 * math.ceil(round((settings.pad - 1) * side / 2, 6)) for side in size)
    return rows, columns


def reach(size: tuple[int, int], settings: AugmentationSettings) -> tuple[int, int]:
    """Returns how much of a scan, (rows, columns), the map of a crop of `size` can read, at least the crop.

    That is the crop's diagonal, zoomed, plus a shift in either direction; the few pixels that an elastic
    field may add are not counted. The margins are the same on both sides of the crop.
    """
    if not settings.enabled:
        return size
    canvas = padded(size, settings)
    slack = [(outer - inner) * settings.random_crop for outer, inner in zip(canvas, size, strict=True)]
    diagonal = math.hypot(*(side + more for side, more in zip(size, slack, strict=True)))
    spans = [diagonal * max(1.0, settings.zoom[1]) + 2 * settings.shift * outer for outer in canvas]
    rows, columns = (
        side + 2 * math.ceil(max(0.0, span - side) / 2) for side, span in zip(size, spans, strict=True)
    )
    return rows, columns


def sample_augmentation(
    batch: int,
    size: tuple[int, int],
    settings: AugmentationSettings,
    generator: torch.Generator | None = None,
) -> Augmentation:
    """Draw the augmentation of `batch` crops of `size` (rows, columns), on the CPU.

    `shift`, `elastic_sigma` and `elastic_alpha` are fractions of the side of the padded canvas (its shorter
    side for the elastic field), because the published operations act on that canvas.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def chosen(probability: float, *shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator) < probability

    canvas = torch.tensor(padded(size, settings)).flip(0)
    side = int(canvas.min())
    cell = max(1.0, settings.elastic_sigma[0] * side / 2)
    margin = 3 * settings.elastic_sigma[1] * side
    cells = [2 * math.ceil((length / 2 + margin) / cell) for length in size]
    intensity = chosen(settings.intensity)
    slack = (canvas - torch.tensor(size).flip(0)) // 2 * settings.random_crop
    return Augmentation(
        flip=1.0 - 2.0 * chosen(settings.flip, 2),
        contrast=torch.where(intensity, uniform(*settings.contrast), 1.0),
        brightness=torch.where(intensity, uniform(-settings.brightness, settings.brightness), 0.0),
        shift=uniform(-settings.shift, settings.shift, 2) * canvas,
        angle=uniform(-settings.rotation, settings.rotation),
        zoom=uniform(*settings.zoom, 2),
        turn=45.0 * torch.randint(8, (batch,), generator=generator) * chosen(settings.rotate45),
        crop=(uniform(0, 1, 2) * (2 * slack + 1)).floor() - slack,
        sigma=uniform(*settings.elastic_sigma) * side,
        alpha=torch.where(chosen(settings.elastic), uniform(*settings.elastic_alpha) * side, 0.0),
        noise=torch.randn(batch, 2, *cells, generator=generator),
        cell=cell,
    )


@torch.no_grad()
def apply_augmentation(
    images: Tensor,
    labels: Tensor,
    inside: Tensor,
    params: Augmentation,
    *,
    size: tuple[int, int],
    rescale: bool = True,
) -> tuple[Tensor, Tensor]:
    """Augments canvases to crops (B, C, *size) in [0, 1], and their labels to (B, *size).

    images: (B, C, rows, columns) in [0, 1]. labels: (B, rows, columns) integers. The crop has the same middle
    as both. inside: (B, 2, 2), the first and last column, then row, of the scan itself; pixels beyond take
    the value of the nearest one inside. `params` lie on the images' device. Images are interpolated linearly,
    labels take the nearest value. All channels of an image get the same. rescale: whether each channel of a
    crop is scaled to [0, 1]. Intensities are clipped to
    [0, 1] after contrast and brightness; otherwise rescaling would undo these.
    """
    contrast, brightness = params.contrast.reshape(-1, 1, 1, 1), params.brightness.reshape(-1, 1, 1, 1)
    canvas = (images * contrast + brightness).clamp_(0, 1)
    # float32 holds class indices exactly, and grid_sample takes no integers
    marks = labels[:, None].to(images.dtype)
    with torch.autocast(images.device.type, enabled=False):  # bf16 holds coordinates to half a pixel only
        grid = torch.stack(
            [
                _held(points, inside[:, axis], side) * (2 / side)
                for axis, (points, side) in enumerate(
                    zip(source_points(params, size), (images.shape[3], images.shape[2]), strict=True)
                )
            ],
            -1,
        ).to(images.dtype)
        moved = F.grid_sample(canvas, grid, mode="bilinear", padding_mode="border", align_corners=False)
        marked = F.grid_sample(marks, grid, mode="nearest", padding_mode="border", align_corners=False)
    # a constant slice has only rounding errors left to scale
    constant = images.amax((2, 3), keepdim=True) == images.amin((2, 3), keepdim=True)
    moved = moved.masked_fill(constant, 0) if rescale else moved
    return rescale_slices(moved) if rescale else moved, marked[:, 0].to(labels.dtype)


def source_points(params: Augmentation, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns where each output pixel comes from: x and y, (B, H, W) each, in pixels from the middle.

    The operations in their order take a point p of the slice to T · Z⁻¹ · R · (flip · p + shift), with the
    rotation R, the zoom Z and the further turn T. The elastic field then gives the output at q the value at
    q + displacement(q), and the crop moves the middle. The inverse is
    p = flip · (R⁻¹ Z T⁻¹ (q + crop + displacement) - shift).
    """
    height, width = size
    field = displacement(params, size)
    x = _centred(width, field) + field[:, 0] + _pixelwise(params.crop[:, 0])
    y = _centred(height, field)[:, None] + field[:, 1] + _pixelwise(params.crop[:, 1])
    x, y = _turned_back(x, y, params.turn)
    x, y = (value * _pixelwise(params.zoom[:, axis]) for axis, value in enumerate((x, y)))
    x, y = _turned_back(x, y, params.angle)
    x, y = (value - _pixelwise(params.shift[:, axis]) for axis, value in enumerate((x, y)))
    return x * _pixelwise(params.flip[:, 0]), y * _pixelwise(params.flip[:, 1])


def beyond(params: Augmentation, inside: Tensor, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Returns the share, (B,), of the crop's pixels that lie beyond the scan and are filled with its edge."""
    filled = torch.zeros(len(inside), *size, dtype=torch.bool, device=inside.device)
    for axis, (points, side) in enumerate(zip(source_points(params, size), reversed(canvas), strict=True)):
        filled |= (points - _held(points, inside[:, axis], side)).abs() > 0.5
    return filled.float().mean((1, 2))


def _held(points: Tensor, limits: Tensor, side: int) -> Tensor:
    """Clamps points (B, H, W), from the middle of `side` pixels, to the first and last pixel (B, 2)."""
    first, last = (limits - (side - 1) / 2).unbind(1)
    return points.maximum(_pixelwise(first)).minimum(_pixelwise(last))


def _turned_back(x: Tensor, y: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
    radians = torch.deg2rad(degrees)
    cos, sin = _pixelwise(radians.cos()), _pixelwise(radians.sin())
    return cos * x + sin * y, cos * y - sin * x


def _pixelwise(draws: Tensor) -> Tensor:
    return draws[:, None, None]


def displacement(params: Augmentation, size: tuple[int, int]) -> Tensor:
    """Returns the elastic field at each output pixel: (B, 2, H, W), in pixels, x then y."""
    rows, columns = (
        _kernel(_centred(length, params.sigma), _centred(cells, params.sigma) * params.cell, params)
        for length, cells in zip(size, params.noise.shape[2:], strict=True)
    )
    field = rows[:, None] @ params.noise @ columns[:, None].mT
    variance = 1 / 3 / params.cell**2  # of uniform (-1, 1) noise, averaged over a cell
    return field * (params.alpha * math.sqrt(variance))[:, None, None, None]


def _kernel(points: Tensor, centres: Tensor, params: Augmentation) -> Tensor:
    """Returns (B, points, cells): a Gaussian of standard deviation sigma that sums to 1 over the cells."""
    sigma = params.sigma[:, None, None]
    distance = points[:, None] - centres
    return torch.exp(-0.5 * (distance / sigma).square()) * (params.cell / math.sqrt(2 * math.pi)) / sigma


def _centred(length: int, like: Tensor) -> Tensor:
    """Returns (length,) coordinates, 1 apart and centred on 0."""
    return torch.arange(length, device=like.device, dtype=like.dtype) - (length - 1) / 2
