"""A tiny data set without a fault, to be spoilt; written with nibabel alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.diag([-1.5, -1.5, 8, 1.0])
SHAPE = (12, 10, 4)
NAMES = {"background": 0, "LV": 1, "MYO": 2, "RV": 3}
CASES = ("a_ED", "a_ES", "b", "c", "d")  # four patients


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """Writes an array as a NIfTI file."""

    def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, affine), path)
        return path

    return write


@pytest.fixture(scope="session")
def volume() -> Callable[[int], np.ndarray]:
    """An image in [0, 1] that no other seed gives."""
    return lambda seed: np.random.default_rng(seed).random(SHAPE, np.float32)


@pytest.fixture(scope="session")
def drawn() -> np.ndarray:
    """A label map that holds every class."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 3:6], labels[5:7, 3:6], labels[7:9, 3:6] = 1, 2, 3
    return labels


@pytest.fixture
def clean(
    tmp_path: Path, save: Callable[..., Path], volume: Callable[[int], np.ndarray], drawn: np.ndarray
) -> Path:
    """images/, labels/ and dataset.json of `CASES`."""
    for seed, case in enumerate(CASES):
        save(tmp_path / f"images/{case}.nii.gz", volume(seed))
        save(tmp_path / f"labels/{case}.nii.gz", drawn)
    return describe(tmp_path)


def describe(root: Path, **entries: Any) -> Path:
    (root / "dataset.json").write_text(json.dumps({"labels": NAMES} | entries))
    return root
