"""One drawn heart: its size in millimetres, its contraction, its contrast."""

from __future__ import annotations

import numpy as np
import pytest

from coopseg.scans.phantom_heart import ACDC, LV, MNMS, MYO, RV, Site, draw, sample_anatomy


@pytest.mark.parametrize("site", [ACDC, *MNMS])
def test_millimetres_are_true_at_every_resolution(site: Site) -> None:
    """The same patient on a coarse and a fine grid has the same volumes."""
    anatomy = sample_anatomy(np.random.default_rng(5), 5)
    volumes = []
    for size in (96, 192):
        _, labels, affine = draw(anatomy, site, size=size, phase=0.0)
        volumes.append([(labels == index).sum() * abs(np.linalg.det(affine)) for index in (LV, MYO, RV)])
    np.testing.assert_allclose(volumes[0], volumes[1], rtol=0.05)


def test_a_drawing_can_be_replayed() -> None:
    anatomy = sample_anatomy(np.random.default_rng(1), 4)
    first, second = (draw(anatomy, ACDC, size=64, phase=0.5) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_contraction_is_the_patients_own() -> None:
    """The cavity's radius at the base shrinks by the drawn share; the wall thickens."""
    anatomy = sample_anatomy(np.random.default_rng(2), 4)
    bases = [draw(anatomy, ACDC, size=192, phase=phase)[1][..., 0] for phase in (0.0, 1.0)]
    areas = [np.bincount(base.ravel(), minlength=4) for base in bases]
    shrink = np.sqrt(areas[1][LV] / areas[0][LV])
    assert shrink == pytest.approx(1 - anatomy.contraction, abs=0.03)
    assert areas[1][MYO] > 0.9 * areas[0][MYO]
