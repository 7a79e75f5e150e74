"""A case stored as a scan lies where the anatomy lies, and is read back as the same case."""

from __future__ import annotations

import numpy as np
import pytest

from coopseg.cases.prepare import prepare
from coopseg.config.settings import CaseSettings
from coopseg.evaluation.case_grid import case_as_scan
from coopseg.scans.types import Scan

SETTINGS = CaseSettings(size=(48, 64), slice_minmax=False, percentiles=(0, 100))


def oblique(seed: int) -> np.ndarray:
    """A rotated affine, axes in any order and direction, 10 mm along one of them."""
    generator = np.random.default_rng(seed)
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    spacing = np.roll([1.1, 1.6, 10.0], generator.integers(3))
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * generator.choice([-1, 1], 3)
    affine[:3, 3] = generator.normal(scale=80, size=3)
    return affine


def blob(shape: tuple[int, ...], affine: np.ndarray, place: np.ndarray) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    distance = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - place, axis=-1)
    return np.exp(-((distance / 8) ** 2)).astype(np.float32)


def centroid(scan: Scan) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, scan.data.shape), indexing="ij"), -1)
    mean = (index * scan.data[..., None]).sum((0, 1, 2)) / scan.data.sum()
    return scan.affine[:3, :3] @ mean + scan.affine[:3, 3]


@pytest.mark.parametrize("seed", range(8))
def test_world_positions_survive(seed: int) -> None:
    affine = oblique(seed)
    shape = tuple(9 if side > 5 else 60 for side in np.linalg.norm(affine[:3, :3], axis=0))
    place = affine[:3, :3] @ (np.array(shape) * 0.55) + affine[:3, 3]
    scan = Scan(blob(shape, affine, place), affine)
    case = prepare(scan, SETTINGS)
    stored = case_as_scan(case.image, scan=scan, record=case.record)
    np.testing.assert_allclose(centroid(stored), centroid(scan), atol=0.05)
    np.testing.assert_allclose(sorted(stored.spacing), [1.36719, 1.36719, 10], atol=1e-6)
    again = prepare(stored, SETTINGS, normalised=True)
    np.testing.assert_array_equal(again.image, case.image)
