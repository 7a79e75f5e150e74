"""Interventional pseudo-correlation augmentation, GIN-IPA: two GIN copies blended (Ouyang et al., TMI 2022).

A smooth random map b in [0, 1] exchanges the two copies of an image by place: b g₁(x) + (1 - b) g₂(x) and
(1 - b) g₁(x) + b g₂(x). So organs no longer change their look together. b is a cubic B-spline surface whose
control points are U(0, 1) and lie a quarter of the image's side apart. All else is as in gin.py.

Such a surface stays near its mean (its deviation is 0.14) and would mix both copies everywhere. This project
therefore scales each map to fill [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coopseg.config.rivals import GinIpaSettings
from coopseg.rivals.gin import Gin
from coopseg.rivals.splines import control_points, spline_surface
from coopseg.training.losses import rescale_slices
from coopseg.training.random_networks import RandomNetworks


@dataclass(frozen=True, eq=False)
class Draws:
    """networks: of both copies. points: (B, 1, n, n) in [0, 1), the control points of the maps."""

    networks: RandomNetworks
    points: Tensor


class GinIpa(Gin):
    """See the head of this file."""

    name = "gin_ipa"
    settings: GinIpaSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Draws:
        """The networks, then the control points."""
        networks = super().sample(image, code, generator)
        side = control_points(self.settings.spacing)
        points = torch.rand(len(image), 1, side, side, generator=generator)
        return Draws(networks, points.to(image.device, image.dtype, non_blocking=True))

    def copies(self, image: Tensor, drawn: Draws) -> Tensor:
        """Images (B, C, H, W) -> the two blends (2, B, C, H, W), not yet scaled."""
        first, second = super().copies(image, drawn.networks)
        share = blend_map(drawn.points, image.shape[2:], self.settings.spacing)
        return torch.stack([torch.lerp(second, first, share), torch.lerp(first, second, share)])


def blend_map(points: Tensor, size: tuple[int, ...], spacing: float) -> Tensor:
    """The map b, (B, 1, *size), from control points (B, 1, n, n); each reaches 0 and 1."""
    return rescale_slices(spline_surface(points, size, spacing))
