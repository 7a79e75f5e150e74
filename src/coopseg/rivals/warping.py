"""Warps a rival's image, its clean target and its label by one map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.settings import AugmentationSettings
from coopseg.training.augmentation import Augmentation, sample_augmentation, source_points


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
