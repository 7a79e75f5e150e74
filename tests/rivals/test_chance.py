"""Draws with a probability, by their distributions."""

from __future__ import annotations

import pytest
import torch

from coopseg.rivals.chance import around_one, perhaps

MANY = 20_000


def draw(p: float, *ranges: tuple[float, float]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return perhaps(p, *ranges, otherwise=-7, batch=MANY, generator=generator)


def test_one_range_is_uniform_and_as_frequent_as_asked() -> None:
    found = draw(0.3, (2, 5))
    picked = found[found != -7]
    assert len(picked) / MANY == pytest.approx(0.3, abs=5 * (0.21 / MANY) ** 0.5)
    assert picked.min() >= 2
    assert picked.max() <= 5
    assert float(picked.mean()) == pytest.approx(3.5, abs=0.1)
    assert float(picked.var()) == pytest.approx(9 / 12, rel=0.05)


def test_of_two_ranges_each_is_as_likely_whatever_its_width() -> None:
    found = draw(1, *around_one((0.5, 3.0)))
    below, above = found[found < 1], found[found >= 1]
    assert len(below) / MANY == pytest.approx(0.5, abs=5 * 0.5 / MANY**0.5)
    for part, low, high in ((below, 0.5, 1), (above, 1, 3)):
        assert part.min() >= low
        assert part.max() <= high
        assert float(part.mean()) == pytest.approx((low + high) / 2, abs=0.03)
        assert float(part.var()) == pytest.approx((high - low) ** 2 / 12, rel=0.05)


@pytest.mark.parametrize(("p", "values"), [(0, {-7.0}), (1, {2.0})])
def test_never_and_always(p: int, values: set[float]) -> None:
    assert set(draw(p, (2, 2)).tolist()) == values
