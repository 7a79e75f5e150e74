"""Damage of label maps against scipy and against loops over pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch

from coopseg.config.rivals import PostDaeSettings
from coopseg.training.label_damage import (
    OPERATIONS,
    Damage,
    damage_labels,
    draw_ellipses,
    near_border,
    reshape_structures,
    sample_damage,
    swap_pixels,
)

SIZE = (40, 32)
SQUARE = np.ones((3, 3), bool)


def make_labels() -> torch.Tensor:
    """(6, 40, 32): a ring around a disc beside a bar that runs out of the image; the last map is empty."""
    y, x = torch.meshgrid(torch.arange(40), torch.arange(32), indexing="ij")
    maps = []
    for n in range(5):
        distance = ((y - 15 - n).square() + (x - 14 - n).square()).sqrt()
        label = 2 * (distance < 10).long() + (distance < 6).long()
        maps.append(torch.where((x >= 27) & (y > 10) & (label == 0), 1, label))
    return torch.stack([*maps, torch.zeros(SIZE, dtype=torch.int64)])


def draw(seed: int = 0, batch: int = 6, **settings: Any) -> Damage:
    generator = torch.Generator().manual_seed(seed)
    return sample_damage(batch, SIZE, 4, PostDaeSettings(**settings), generator)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("structure", [1, 2, 3])
def test_reshapes_as_scipy_does(operation: tuple[int, ...], structure: int) -> None:
    """Radii of 1 to 6, the largest leave nothing of the ring; the edge of the image erodes nothing."""
    labels, radii = make_labels(), torch.arange(1, 7)
    growth = torch.tensor([operation]) * radii[:, None]
    damage = replace(draw(), structure=torch.full((6,), structure), growth=growth, furthest=6)
    found = reshape_structures(labels, damage).numpy()
    for n, radius in enumerate(radii.tolist()):
        before = after = (labels[n] == structure).numpy()
        for sign in operation:
            if sign < 0:
                after = ndi.binary_erosion(after, SQUARE, iterations=radius, border_value=1)
            elif sign > 0:
                after = ndi.binary_dilation(after, SQUARE, iterations=radius)
        np.testing.assert_array_equal(
            found[n], np.where(after, structure, np.where(before, 0, labels[n].numpy()))
        )


def borders(label: np.ndarray) -> list[tuple[int, int]]:
    """Pixels with a neighbour, of four, of another class, row by row."""
    rows, columns = label.shape
    return [
        (y, x)
        for y in range(rows)
        for x in range(columns)
        if any(
            0 <= a < rows and 0 <= b < columns and label[a, b] != label[y, x]
            for a, b in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        )
    ]


def test_draws_ellipses_pixel_by_pixel() -> None:
    labels, damage = make_labels(), draw(3, p=1, shapes=5)
    found = draw_ellipses(labels, damage).numpy()
    assert not np.array_equal(found, labels.numpy())
    for n, label in enumerate(labels.numpy()):
        edge, expected = borders(label), label.copy()
        for k in range(5):
            hole = int(damage.value[n, k]) == 0
            if not damage.present[n, k] or (hole and not edge):
                continue
            centre = edge[int(damage.rank[n, k] * len(edge))] if hole else damage.centre[n, k].tolist()
            cos, sin = float(damage.angle[n, k].cos()), float(damage.angle[n, k].sin())
            tall, broad = damage.radii[n, k].tolist()
            for y in range(40):
                for x in range(32):
                    v, u = y - centre[0], x - centre[1]
                    if ((cos * v + sin * u) / tall) ** 2 + ((cos * u - sin * v) / broad) ** 2 <= 1:
                        expected[y, x] = int(damage.value[n, k])
        np.testing.assert_array_equal(found[n], expected)


@pytest.mark.parametrize("reach", [1, 2])
def test_swaps_pixel_by_pixel(reach: int) -> None:
    labels, damage = make_labels(), draw(5, p=1, swap_reach=reach)
    found = swap_pixels(labels, damage).numpy()
    assert not np.array_equal(found, labels.numpy())
    for n, label in enumerate(labels.numpy()):
        edge, expected = borders(label), label.copy()
        for y in range(40):
            for x in range(32):
                near = any(abs(a - y) <= reach and abs(b - x) <= reach for a, b in edge)
                if damage.swapped[n, y, x] and near:
                    dy, dx = damage.offset[n, :, y, x].tolist()
                    expected[y, x] = label[min(max(y + dy, 0), 39), min(max(x + dx, 0), 31)]
        np.testing.assert_array_equal(found[n], expected)
        assert near_border(labels, reach)[n].any() == bool(edge)


def test_the_draws_are_distributed_as_stated() -> None:
    count = 3000
    settings = PostDaeSettings()
    damage = sample_damage(count, (16, 16), 4, settings, torch.Generator().manual_seed(0))
    reshaped, drawn, swapped = damage.growth.any(1), damage.present.any(1), damage.swapped.flatten(1).any(1)
    for kind in (reshaped, drawn, swapped):
        assert float(kind.float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / count**0.5)
    untouched = float((~reshaped & ~drawn & ~swapped).float().mean())
    assert untouched == pytest.approx(1 / 8, abs=5 * (7 / 64 / count) ** 0.5)
    share = damage.swapped[swapped].float().mean((1, 2))
    assert float(share.mean()) == pytest.approx(0.3, abs=0.02)  # of U(0.1, 0.5)
    assert damage.growth.abs().max() == damage.furthest == settings.reshape
    assert {tuple(pair) for pair in damage.growth.sign().tolist()} == {(0, 0), *OPERATIONS}
    assert set(damage.value.unique().tolist()) == {0, 1, 2, 3}
    assert damage.offset.abs().max() == settings.swap_reach
    assert set(damage.structure.tolist()) == {1, 2, 3}


def test_without_damage_maps_stay_as_they_are() -> None:
    labels = make_labels()
    assert torch.equal(damage_labels(labels, draw(p=0)), labels)


def test_the_same_seed_damages_alike_and_leaves_the_labels_alone() -> None:
    labels = make_labels()
    found = damage_labels(labels, draw(9, p=1))
    assert torch.equal(found, damage_labels(make_labels(), draw(9, p=1)))
    assert torch.equal(labels, make_labels())
    assert found.dtype == torch.int64
    assert set(found.unique().tolist()) <= {0, 1, 2, 3}
    assert not torch.equal(found, damage_labels(labels, draw(10, p=1)))
