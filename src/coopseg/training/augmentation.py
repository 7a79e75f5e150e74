"""Image augmentation of a training batch, on its device (Chen et al. 2021, section 3).

In this order: pad, flip, contrast and brightness, shift, rotation, zoom, a further rotation by a multiple
of 45 degrees, elastic deformation, crop, min-max. Every geometric operation is composed into one map from
output to input, so that a slice is interpolated once and not once an operation: sharper, faster, and
nothing is lost that leaves the canvas in one operation and returns in the next.

The elastic field is alpha times white noise, uniform in (-1, 1), smoothed by a Gaussian of standard
deviation sigma. Such a field is a sum over hundreds of pixels and more, so Gaussian, and is described by
its covariance alone: alpha² / 3 / (4 π sigma²) exp(-r² / (4 sigma²)). The same covariance comes from
noise on cells of c pixels with 1 / c² of the variance, as long as a cell is at most sigma / 2 wide (the
kernel's spectrum beyond the cells' Nyquist frequency is below e^-19). So it is drawn on such cells, which
makes it cheap to draw, store and replay, and the kernel is evaluated from the cells' centres straight at
the pixels, one small matrix product an axis. Cells go on beyond the image: the field has no edge.
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
    """The draws for a batch of B slices. Lengths in pixels, pairs in the order (columns, rows)."""

    flip: Tensor  # (B, 2): -1 mirrors the axis, 1 does not
    contrast: Tensor  # (B,): factor about the slice's mean
    brightness: Tensor  # (B,): added
    shift: Tensor  # (B, 2)
    angle: Tensor  # (B,): degrees, both rotations together
    zoom: Tensor  # (B,): above 1 enlarges
    sigma: Tensor  # (B,): of the elastic field
    alpha: Tensor  # (B,): of the elastic field; 0 for none
    noise: Tensor  # (B, 2, rows, columns) of cells: standard normal
    cell: float  # side of a cell
    pad: tuple[int, int]  # added on either side of the columns and of the rows

    def to(self, device: torch.device | str) -> Augmentation:
        """The same draws on another device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
        return replace(self, **moved)


def sample_augmentation(
    batch: int,
    size: tuple[int, int],
    settings: AugmentationSettings,
    generator: torch.Generator | None = None,
) -> Augmentation:
    """Draw the augmentation of `batch` slices of `size` (rows, columns), on the CPU.

    `shift`, `elastic_sigma` and `elastic_alpha` are fractions of the side of the padded canvas, on which
    the published operations act (for the elastic field, of its shorter side).
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def chosen(probability: float, *shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator) < probability

    # rounded first: 7/6 of 192 is 224 and a rounding error
    pad = tuple(math.ceil(round((settings.pad - 1) * side / 2, 6)) for side in reversed(size))
    canvas = [side + 2 * margin for side, margin in zip(reversed(size), pad, strict=True)]
    side = min(canvas)
    cell = max(1.0, settings.elastic_sigma[0] * side / 2)
    reach = 3 * settings.elastic_sigma[1] * side
    cells = [2 * math.ceil((length / 2 + reach) / cell) for length in size]
    intensity = chosen(settings.intensity)
    turns = torch.randint(8, (batch,), generator=generator) * chosen(settings.rotate45)
    return Augmentation(
        flip=1.0 - 2.0 * chosen(settings.flip, 2),
        contrast=torch.where(intensity, uniform(*settings.contrast), 1.0),
        brightness=torch.where(intensity, uniform(-settings.brightness, settings.brightness), 0.0),
        shift=uniform(-settings.shift, settings.shift, 2) * torch.tensor(canvas),
        angle=uniform(-settings.rotation, settings.rotation) + 45.0 * turns,
        zoom=uniform(*settings.zoom),
        sigma=uniform(*settings.elastic_sigma) * side,
        alpha=torch.where(chosen(settings.elastic), uniform(*settings.elastic_alpha) * side, 0.0),
        noise=torch.randn(batch, 2, *cells, generator=generator),
        cell=cell,
        pad=(pad[0], pad[1]),
    )


@torch.no_grad()
def apply_augmentation(images: Tensor, labels: Tensor, params: Augmentation) -> tuple[Tensor, Tensor]:
    """Augment images (B, C, H, W) in [0, 1] and labels (B, H, W) int64 alike; same shapes and ranges.

    `params` lie on the images' device. Images are interpolated linearly and scaled to [0, 1] per slice at
    the end, labels take the nearest value; outside the canvas both are 0. Contrast and brightness are
    clipped to [0, 1], without which the last step would undo them.
    """
    columns, rows = params.pad
    margins = (columns, columns, rows, rows)
    mean = images.mean((1, 2, 3), keepdim=True)
    contrast, brightness = params.contrast.reshape(-1, 1, 1, 1), params.brightness.reshape(-1, 1, 1, 1)
    canvas = ((F.pad(images, margins) - mean) * contrast + mean + brightness).clamp_(0, 1)
    # float32 holds class indices exactly, and grid_sample takes no integers
    marks = F.pad(labels[:, None].to(images.dtype), margins)
    with torch.autocast(images.device.type, enabled=False):  # bf16 holds coordinates to half a pixel only
        x, y = source_points(params, images.shape[2:])
        grid = torch.stack([x * (2 / canvas.shape[3]), y * (2 / canvas.shape[2])], -1).to(images.dtype)
        moved = F.grid_sample(canvas, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        marked = F.grid_sample(marks, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    # of a constant slice rounding errors would be all that is left to scale
    constant = images.amax((1, 2, 3), keepdim=True) == images.amin((1, 2, 3), keepdim=True)
    return rescale_slices(moved.masked_fill(constant, 0)), marked[:, 0].to(labels.dtype)


def source_points(params: Augmentation, size: torch.Size) -> tuple[Tensor, Tensor]:
    """Where each output pixel comes from: x and y, (B, H, W) each, in pixels from the centre.

    The operations in their order take a point p of the slice to zoom · R · (flip · p + shift), R being
    both rotations; the elastic field, last, makes the output at q that of q + displacement(q). Undone:
    p = flip · (R⁻¹ (q + displacement) / zoom - shift).
    """

    def pixelwise(draws: Tensor) -> Tensor:
        return draws[:, None, None]

    height, width = size
    field = displacement(params, size)
    x = _centred(width, field) + field[:, 0]
    y = _centred(height, field)[:, None] + field[:, 1]
    radians = torch.deg2rad(params.angle)
    cos, sin = pixelwise(radians.cos() / params.zoom), pixelwise(radians.sin() / params.zoom)
    x, y = cos * x + sin * y, cos * y - sin * x
    x, y = (value - pixelwise(params.shift[:, axis]) for axis, value in enumerate((x, y)))
    return x * pixelwise(params.flip[:, 0]), y * pixelwise(params.flip[:, 1])


def displacement(params: Augmentation, size: torch.Size) -> Tensor:
    """The elastic field at each output pixel: (B, 2, H, W), pixels, x then y."""
    rows, columns = (
        _kernel(_centred(length, params.sigma), _centred(cells, params.sigma) * params.cell, params)
        for length, cells in zip(size, params.noise.shape[2:], strict=True)
    )
    field = rows[:, None] @ params.noise @ columns[:, None].mT
    variance = 1 / 3 / params.cell**2  # of uniform (-1, 1) noise, averaged over a cell
    return field * (params.alpha * math.sqrt(variance))[:, None, None, None]


def _kernel(points: Tensor, centres: Tensor, params: Augmentation) -> Tensor:
    """(B, points, cells): a Gaussian of deviation sigma that sums to 1 over the cells."""
    sigma = params.sigma[:, None, None]
    distance = points[:, None] - centres
    return torch.exp(-0.5 * (distance / sigma).square()) * (params.cell / math.sqrt(2 * math.pi)) / sigma


def _centred(length: int, like: Tensor) -> Tensor:
    """(length,) coordinates 1 apart around 0."""
    return torch.arange(length, device=like.device, dtype=like.dtype) - (length - 1) / 2
