"""The phantom: readable as what it claims to be, anatomically sane, equal for equal seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as components

from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.phantom import write_phantom

NAMES = ("background", "LV", "MYO", "RV")


def all_labels(folder: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(id, class indices (X, Y, Z), spacing) of every volume."""
    dataset = open_dataset(folder)
    found = []
    for ref in dataset.items:
        stored = load_label(ref)
        assert stored is not None
        found.append(
            (ref.id, labels_to_indices(stored.data, dataset.labels, names=NAMES, path=None), stored.spacing)
        )
    return found


def test_layouts_are_recognised(phantom: dict[str, Path]) -> None:
    acdc, mnms = open_dataset(phantom["acdc"]), open_dataset(phantom["mnms"])
    assert (acdc.layout, mnms.layout) == ("acdc", "mnms")
    for dataset in (acdc, mnms):
        assert len(dataset.patients) == 6
        assert [item.phase for item in dataset.items] == ["ED", "ES"] * 6
        assert all(item.label is not None for item in dataset.items)
    assert {item.site for item in mnms.items} == {"Phantom B/1", "Phantom C/2"}
    assert {item.frame for item in mnms.items} == {0, 2}


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_hearts_contract_and_taper(phantom: dict[str, Path], layout: str) -> None:
    for name, indices, spacing in all_labels(phantom[layout]):
        areas = np.array([[(indices[..., z] == c).sum() for c in (1, 2, 3)] for z in range(indices.shape[2])])
        areas = areas * spacing[0] * spacing[1]
        assert (areas[0] > areas[3]).all(), name  # base above, towards the apex smaller
        assert areas[-1].sum() == 0, name  # one slice beyond the apex
        volumes = areas.sum(0) * spacing[2] / 1000
        if name.endswith("ED"):
            diastole = volumes
            assert 35 < volumes[0] < 200, name  # ml
            assert 40 < volumes[1] < 260, name
        else:
            assert volumes[0] < 0.75 * diastole[0], name
            assert volumes[2] < diastole[2], name


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_myocardium_separates_the_cavity_from_all_else(phantom: dict[str, Path], layout: str) -> None:
    for name, indices, _ in all_labels(phantom[layout]):
        for z in range(indices.shape[2]):
            cavity = indices[..., z] == 1
            around = indices[..., z][binary_dilation(cavity) & ~cavity]
            assert (around == 2).all(), name
            assert components(indices[..., z] == 3, np.ones((3, 3)))[1] <= 1, name


def test_blood_is_brighter_than_myocardium_and_sites_differ(phantom: dict[str, Path]) -> None:
    means = {}
    for layout, folder in phantom.items():
        dataset = open_dataset(folder)
        for ref in dataset.items:
            image, stored = load_scan(ref).data, load_label(ref)
            indices = labels_to_indices(stored.data, dataset.labels, names=NAMES, path=None)
            values = [image[indices == index].mean() for index in (1, 2, 3)]
            assert values[0] > 1.2 * values[1]
            assert values[2] > 1.2 * values[1]
            means.setdefault(ref.site or layout, []).append(values[0] / values[1])
    contrasts = sorted(float(np.mean(values)) for values in means.values())
    assert len(contrasts) == 3
    assert contrasts[-1] > 1.2 * contrasts[0]


def test_equal_seed_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_phantom(tmp_path / name, patients=2, seed=seed, size=48, slices=4)
    files = {
        n: {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "abc"
    }
    assert len(files["a"]) == 2 * 5 + 2 * 2 + 1
    assert files["a"] == files["b"]
    first = Path("acdc/patient001/patient001_frame01.nii.gz")
    assert files["a"][first] != files["c"][first]


def test_more_patients_leave_the_first_ones_alone(tmp_path: Path) -> None:
    for name, patients in (("a", 1), ("b", 2)):
        write_phantom(tmp_path / name, patients=patients, seed=0, size=48, slices=4)
    first = "mnms/Training/Labeled/P0H0N0/P0H0N0_sa.nii.gz"
    assert (tmp_path / "a" / first).read_bytes() == (tmp_path / "b" / first).read_bytes()
