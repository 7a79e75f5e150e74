"""Implements GIN-IPA, which blends the two GIN copies of an image (Ouyang et al., TMI 2022).

IPA is interventional pseudo-correlation augmentation. A smooth random map b in [0, 1] exchanges the two
copies by place: b g₁(x) + (1 - b) g₂(x) and (1 - b) g₁(x) + b g₂(x). So organs no longer change their look
together. b is a cubic B-spline surface whose control points are U(0, 1) and lie a quarter of the image's side
apart. All else is as in gin.py.

Such a surface stays near its mean (its standard deviation is 0.14) and would mix both copies everywhere. This
project therefore scales each map to fill [0, 1].
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
    """Holds the draws: networks of both copies; points (B, 1, n, n) in [0, 1), control points of the maps."""

    networks: RandomNetworks
    points: Tensor


class GinIpa(Gin):
    """Trains on blends of GIN copies, as the module's docstring describes."""

    name = "gin_ipa"
    settings: GinIpaSettings

    def sample(self, image: Tensor, code: object, generator: torch.Generator | None) -> Draws:
        """Draws the networks, then the control points."""
        networks = super().sample(image, code, generator)
        side = control_points(self.settings.spacing)
        points = torch.rand(len(image), 1, side, side, generator=generator)
        return Draws(networks, points.to(image.device, image.dtype, non_blocking=True))

    def copies(self, image: Tensor, drawn: Draws) -> Tensor:
        """Turns images (B, C, H, W) into the two blends (2, B, C, H, W), not yet scaled."""
        first, second = super().copies(image, drawn.networks)
        share = blend_map(drawn.points, image.shape[2:], self.settings.spacing)
        return torch.stack([torch.lerp(second, first, share), torch.lerp(first, second, share)])


def blend_map(points: Tensor, size: tuple[int, ...], spacing: float) -> Tensor:
    """Returns the maps b, (B, 1, *size), from control points (B, 1, n, n); each map reaches 0 and 1."""
    return rescale_slices(spline_surface(points, size, spacing))
