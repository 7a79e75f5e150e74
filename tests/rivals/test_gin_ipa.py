"""Blended copies against the formula, written out with scipy's splines."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from coopseg.config.rivals import GinIpaSettings, GinSettings
from coopseg.rivals.gin import Gin
from coopseg.rivals.gin_ipa import Draws, GinIpa, blend_map


def draw(image: Tensor, seed: int = 0) -> Draws:
    return GinIpa(GinIpaSettings()).sample(image, None, torch.Generator().manual_seed(seed))


def pictures(batch: int = 3, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, channels, 24, 32, generator=generator, dtype=torch.float64)


def slow_map(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The spline surface through points (7, 7), scaled to [0, 1]."""
    knots = 0.25 * np.arange(-3, 8)
    down, along = ((np.arange(side) + 0.5) / side for side in size)
    surface = BSpline(knots, BSpline(knots, points, 3)(down), 3, axis=1)(along)
    return (surface - surface.min()) / (surface.max() - surface.min())


def test_copies_take_each_others_place() -> None:
    image = pictures(channels=2)
    drawn = draw(image)
    first, second = Gin(GinSettings()).copies(image, drawn.networks)
    found = GinIpa(GinIpaSettings()).copies(image, drawn)
    for n in range(3):
        share = torch.from_numpy(slow_map(drawn.points[n, 0].numpy(), (24, 32)))
        torch.testing.assert_close(found[0, n], share * first[n] + (1 - share) * second[n])
        torch.testing.assert_close(found[1, n], (1 - share) * first[n] + share * second[n])


def test_every_image_has_a_map_of_its_own_that_fills_its_range() -> None:
    drawn = draw(pictures(400))
    maps = blend_map(drawn.points, (32, 32), 0.25)
    assert torch.equal(maps.amin((1, 2, 3)), torch.zeros(400, dtype=torch.float64))
    assert torch.equal(maps.amax((1, 2, 3)), torch.ones(400, dtype=torch.float64))
    assert torch.pdist(maps.flatten(1)).min() > 1
    steps = torch.cat([maps.diff(dim=2).flatten(), maps.diff(dim=3).flatten()])
    assert steps.abs().max() < 0.25  # smooth: 8 pixels from one control point to the next
    for share in (0.1, 0.5, 0.9):
        below = float((drawn.points < share).double().mean())
        assert abs(below - share) < 5 * 0.5 / drawn.points.numel() ** 0.5


def test_the_same_seed_makes_the_same_copies() -> None:
    image, rival = pictures(), GinIpa(GinIpaSettings())
    assert torch.equal(rival.copies(image, draw(image, 4)), rival.copies(image, draw(image, 4)))
    drawn, other = draw(image, 4), draw(image, 5)
    assert not torch.equal(
        rival.copies(image, drawn), rival.copies(image, Draws(drawn.networks, other.points))
    )
