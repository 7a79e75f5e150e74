"""Spacing, orientation and shear by the affine."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from coopseg.checks.geometry import check_geometry, slice_axis


def rules(affine: np.ndarray) -> list[str]:
    return [fault.rule for fault in check_geometry(affine)]


def box(*spacing: float) -> np.ndarray:
    return np.diag([*spacing, 1.0])


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((1.5, 1.5, 8), []),
        ((0.5, 0.5, 0.5), []),
        ((0.3, 0.3, 20), []),
        ((4, 4, 4), []),
        ((0.25, 1, 5), ["spacing-unusual"]),
        ((1, 4.5, 5), ["spacing-unusual"]),
        ((1, 1, 21), ["spacing-unusual"]),
        ((0.1, 0.1, 50), ["spacing-unusual"]),
        ((1, 0.09, 5), ["spacing-extreme"]),
        ((10.5, 1, 12), ["spacing-extreme"]),
        ((0.4, 0.4, 0.4), ["spacing-extreme"]),
        ((1, 1, 51), ["spacing-extreme"]),
    ],
)
def test_spacing_of_pixels_and_slices(spacing: tuple[float, ...], expected: list[str]) -> None:
    assert rules(box(*spacing)) == expected


def test_spacing_does_not_depend_on_direction() -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", [20, -40, 70], degrees=True).as_matrix() @ np.diag([1, 1, 60])
    assert rules(turned) == ["spacing-extreme"]
    turned[:3, 2] /= 10
    assert rules(turned) == []


def test_slices_along_another_axis() -> None:
    assert slice_axis(box(8, 1, 1)) == 0
    assert rules(box(8, 1, 1)) == rules(box(1, 8, 1)) == ["orientation"]


def test_the_identity_was_never_recorded() -> None:
    assert rules(np.eye(4)) == ["orientation"]
    moved = np.eye(4)
    moved[0, 3] = -90
    assert rules(moved) == rules(box(-1, -1, 1)) == []


@pytest.mark.parametrize(("degrees", "expected"), [(0.05, []), (0.06, ["shear"]), (5, ["shear"])])
def test_shear(degrees: float, expected: list[str]) -> None:
    """The cosine of 90 degrees less 0.0573 is 1e-3."""
    affine = box(1.5, 1.5, 8)
    affine[0, 2] = 8 * np.tan(np.radians(degrees))
    faults = list(check_geometry(affine))
    assert [fault.rule for fault in faults] == expected
    assert all(f"{90 - degrees:.2f} degrees" in fault.found for fault in faults)
