"""Curves and regions against numpy, and by their stated distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from coopseg.rivals.location_scale import (
    VALUES,
    Curves,
    bend,
    curve_table,
    quantiles,
    relocate,
    sample_curves,
)

MANY = 4000


def make_batch() -> tuple[Tensor, Tensor]:
    """Images (3, 2, 24, 20), float64 in [0.1, 0.9], and regions 0 to 3; the second image has no 2."""
    generator = torch.Generator().manual_seed(0)
    image = 0.1 + 0.8 * torch.rand(3, 2, 24, 20, generator=generator, dtype=torch.float64)
    region = torch.randint(4, (3, 24, 20), generator=generator)
    region[1][region[1] == 2] = 3
    return image, region


def draw(image: Tensor, falling: tuple[float, ...] = (1, 0.5, 0.5, 0.5), seed: int = 1) -> Curves:
    return sample_curves(image, falling, torch.Generator().manual_seed(seed))


def slow_curve(values: np.ndarray, curves: Curves, b: int, r: int) -> np.ndarray:
    """Through points of the curve, close together."""
    low, high = values.min(), values.max()
    (x1, y1), (x2, y2) = (low + (high - low) * curves.points[b, r].numpy()).tolist()
    t = np.linspace(0, 1, 50_001)
    weights = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
    x = sum(w * c for w, c in zip(weights, (low, x1, x2, high), strict=True))
    y = sum(w * c for w, c in zip(weights, (low, y1, y2, high), strict=True))
    moved = np.interp(values, x, y)
    return low + high - moved if curves.falling[b, r] else moved


def slow_relocate(image: np.ndarray, region: np.ndarray, curves: Curves, b: int) -> np.ndarray:
    """One image (C, H, W)."""
    found = np.empty_like(image)
    for r in np.unique(region):
        inside = np.broadcast_to(region == r, image.shape)
        moved = slow_curve(image[inside], curves, b, r)
        low, high = np.percentile(moved, (20, 80))
        location = np.clip(float(curves.location[b, r]), -low, 1 - high)
        found[inside] = np.clip(moved * float(curves.scale[b, r]) + location, 0, 1)
    return found


def test_every_region_moves_by_its_own_curve() -> None:
    image, region = make_batch()
    curves = draw(image)
    found = relocate(image, region, curves)
    for b in range(3):
        expected = slow_relocate(image[b].numpy(), region[b].numpy(), curves, b)
        np.testing.assert_allclose(found[b], expected, atol=2e-3)  # straight between VALUES points
    assert found.min() >= 0
    assert found.max() <= 1


def test_one_region_is_the_whole_image() -> None:
    image, region = make_batch()
    curves = draw(image, (0.0,))
    found = relocate(image, torch.zeros_like(region), curves)
    for b in range(3):
        nowhere = np.zeros((24, 20), int)
        np.testing.assert_allclose(found[b], slow_relocate(image[b].numpy(), nowhere, curves, b), atol=2e-3)


def test_curves_are_exact_at_their_points() -> None:
    curves = draw(torch.zeros(6, 1, 4, 4, dtype=torch.float64))
    table = curve_table(curves)
    assert table.shape == (6, 4, VALUES)
    for b in range(6):
        for r in range(4):
            expected = slow_curve(np.linspace(0, 1, VALUES), curves, b, r)
            np.testing.assert_allclose(table[b, r], expected, atol=1e-6)


def test_curves_are_monotone_and_reach_both_ends() -> None:
    curves = draw(torch.zeros(300, 1, 4, 4, dtype=torch.float64), (0.0, 1.0))
    table = curve_table(curves)
    rising, falling = table.unbind(1)
    assert (rising.diff() >= 0).all()
    assert (falling.diff() <= 0).all()
    assert (table[:, :, [0, -1]] == torch.tensor([[0.0, 1], [1, 0]])).all()


def test_a_constant_region_and_single_precision() -> None:
    image, region = make_batch()
    image = torch.where(region[:, None] == 1, 0.4, image).float()
    curves = draw(image)
    bent = bend(image.flatten(1), region[:, None].expand_as(image).flatten(1), curves).view_as(image)
    assert (bent[region[:, None].expand_as(image) == 1] == torch.tensor(0.4)).all()
    wide = Curves(**{name: v.double() if v.is_floating_point() else v for name, v in vars(curves).items()})
    torch.testing.assert_close(
        relocate(image, region, curves), relocate(image.double(), region, wide).float(), atol=1e-5, rtol=0
    )


def test_quantiles_are_numpys() -> None:
    image, region = make_batch()
    values, place = image.flatten(1), region[:, None].expand_as(image).flatten(1)
    found = quantiles(values, place, 4, (0.0, 0.2, 0.55, 1.0))
    for share, quantile in zip((0, 20, 55, 100), found, strict=True):
        for b in range(3):
            for r in set(region[b].flatten().tolist()):
                expected = np.percentile(values[b][place[b] == r].numpy(), share)
                assert float(quantile[b, r]) == pytest.approx(expected, abs=1e-12)


def test_draws_are_distributed_as_stated() -> None:
    curves = draw(torch.zeros(MANY, 1, 2, 2), (0.0, 0.3, 1.0))
    assert not curves.falling[:, 0].any()
    assert curves.falling[:, 2].all()
    assert float(curves.falling[:, 1].float().mean()) == pytest.approx(0.3, abs=5 * (0.21 / MANY) ** 0.5)
    assert curves.points.min() >= 0
    assert curves.points.max() < 1
    assert float(curves.points.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(curves.points.var()) == pytest.approx(1 / 12, rel=0.05)
    assert float(curves.location.mean()) == pytest.approx(0, abs=5 * 0.5 / (3 * MANY) ** 0.5)
    assert float(curves.location.std()) == pytest.approx(0.5, rel=0.05)
    assert float(curves.scale.min()) == pytest.approx(0.9)
    assert float(curves.scale.max()) == pytest.approx(1.1)
    at_limit = ((curves.scale - 1).abs() > 0.1 - 1e-6).float().mean()  # beyond one deviation of a normal
    assert float(at_limit) == pytest.approx(0.3173, abs=5 * (0.22 / (3 * MANY)) ** 0.5)
    within = curves.scale[(curves.scale - 1).abs() < 0.1 - 1e-6]
    assert float(within.std()) == pytest.approx(0.1 * 0.5396, rel=0.05)  # of a normal cut off at 1


def test_first_regions_are_those_of_all() -> None:
    image, region = make_batch()
    curves = draw(image)
    first = curves.first(2)
    assert first.scale.shape == (3, 2)
    assert torch.equal(relocate(image, region % 2, first), relocate(image, region % 2, curves))


def test_a_value_that_is_not_finite_stays_where_it_is() -> None:
    """The loop looks at the loss and names the slice; nothing may break before."""
    image, region = make_batch()
    image[0, 0, 3, 4] = torch.nan
    found = relocate(image, region, draw(image))
    assert found[0].isnan().any()
    assert not found[1:].isnan().any()
