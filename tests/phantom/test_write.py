"""The data sets: readable as what they claim to be, sane, of known volume, equal for equal seeds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as components

from coopseg.errors import CoopsegError
from coopseg.phantom.write import write_phantom
from coopseg.scans.geometry import find_orientation, to_slices
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.types import Scan, ScanRef

NAMES = ("background", "LV", "MYO", "RV")
CLASSES = (1, 2, 3)
Volume = tuple[ScanRef, Scan, np.ndarray]


@pytest.fixture(scope="module")
def volumes(phantom: dict[str, Path]) -> dict[str, list[Volume]]:
    """(reference, scan, class indices (X, Y, Z)) of every volume of each data set."""
    return {layout: list(read_all(folder)) for layout, folder in phantom.items()}


def read_all(folder: Path) -> list[Volume]:
    dataset = open_dataset(folder)
    found = []
    for ref in dataset.items:
        stored = load_label(ref)
        assert stored is not None
        indices = labels_to_indices(stored.data, dataset.labels, names=NAMES, path=None)
        found.append((ref, load_scan(ref), indices))
    return found


def by_site(volumes: dict[str, list[Volume]]) -> dict[str, list[Volume]]:
    sites: dict[str, list[Volume]] = {}
    for layout, found in volumes.items():
        for volume in found:
            sites.setdefault(volume[0].site or layout, []).append(volume)
    return sites


def test_layouts_are_recognised(phantom: dict[str, Path]) -> None:
    acdc, mnms = open_dataset(phantom["acdc"]), open_dataset(phantom["mnms"])
    assert (acdc.layout, mnms.layout) == ("acdc", "mnms")
    for dataset in (acdc, mnms):
        assert len(dataset.patients) == 6
        assert [item.phase for item in dataset.items] == ["ED", "ES"] * 6
        assert all(item.label is not None for item in dataset.items)
    assert {item.site for item in mnms.items} == {"Phantom B/1", "Phantom C/2", "Phantom D/3"}
    assert {item.frame for item in mnms.items} == {0, 2}


def test_voxels_hold_the_volumes_of_the_table(
    phantom: dict[str, Path], volumes: dict[str, list[Volume]]
) -> None:
    """Slices 8 to 10 mm apart miss or add up to half a slice at the base: 10 %, or 5 ml of a small volume."""
    for layout, found in volumes.items():
        with (phantom[layout] / "volumes.csv").open() as file:
            table = {(row["patient"], row["phase"]): row for row in csv.DictReader(file)}
        assert len(table) == len(found)
        ratios = []
        for ref, scan, indices in found:
            row = table[ref.patient, ref.phase]
            voxel = abs(np.linalg.det(scan.affine)) / 1000
            for name, index in (("lv_ml", 1), ("myocardium_ml", 2), ("rv_ml", 3)):
                true, counted = float(row[name]), (indices == index).sum() * voxel
                assert abs(counted - true) < 0.1 * true + 5, (ref.id, name, counted, true)
                ratios.append(counted / true)
            assert float(row["myocardium_g"]) == pytest.approx(1.05 * float(row["myocardium_ml"]), abs=0.01)
        assert np.mean(ratios) == pytest.approx(1, abs=0.04)
        for patient in {patient for patient, _ in table}:
            ed, es = table[patient, "ED"], table[patient, "ES"]
            for ventricle in ("lv", "rv"):
                fraction = 1 - float(es[f"{ventricle}_ml"]) / float(ed[f"{ventricle}_ml"])
                assert float(ed[f"{ventricle}_ef"]) == pytest.approx(fraction, abs=0.001)


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_hearts_taper_and_end(volumes: dict[str, list[Volume]], layout: str) -> None:
    for ref, _, indices in volumes[layout]:  # stored from the base
        areas = np.array([(indices == index).sum((0, 1)) for index in CLASSES])
        filled = np.nonzero(areas[1])[0]
        third = len(filled) // 3
        assert (areas[:, filled[:third]].mean(1) > areas[:, filled[-third:]].mean(1)).all(), ref.id
        assert areas.shape[1] - 1 - filled[-1] <= 3, ref.id  # empty slices beyond the apex
        assert (np.diff(filled) == 1).all(), ref.id


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_myocardium_separates_the_cavity_from_all_else(volumes: dict[str, list[Volume]], layout: str) -> None:
    for ref, _, indices in volumes[layout]:
        for z in range(indices.shape[2]):
            cavity = indices[..., z] == 1
            around = indices[..., z][binary_dilation(cavity) & ~cavity]
            assert (around == 2).all(), ref.id
            for index in CLASSES:
                assert components(indices[..., z] == index, np.ones((3, 3)))[1] <= 1, ref.id


def test_blood_is_brighter_than_myocardium_and_sites_differ_in_it(volumes: dict[str, list[Volume]]) -> None:
    contrasts = []
    for found in by_site(volumes).values():
        ratios = []
        for ref, scan, indices in found:
            lv, myo, rv = (np.median(scan.data[indices == index]) for index in CLASSES)
            assert min(lv, rv) > 1.4 * myo, ref.id
            ratios.append(lv / myo)
        contrasts.append(np.mean(ratios))
    assert max(contrasts) > 1.2 * min(contrasts)


def test_papillary_muscles_are_dark_and_belong_to_the_cavity(volumes: dict[str, list[Volume]]) -> None:
    for ref, scan, indices in volumes["acdc"]:
        middle = indices.shape[2] // 2
        image, labels = scan.data[..., middle], indices[..., middle]
        inside = image[(labels == 1) & ~binary_dilation(labels == 2, iterations=1)]
        if ref.phase == "ED":
            assert (inside < 0.75 * np.median(inside)).any(), ref.id
            assert np.quantile(inside, 0.3) > 0.75 * np.median(inside), ref.id  # most of it is blood


def test_sites_differ_as_scanners_do(volumes: dict[str, list[Volume]]) -> None:
    sites = by_site(volumes)
    assert len(sites) == 4
    facts = {
        name: {
            "pixel": np.mean([scan.spacing[0] for _, scan, _ in found]),
            "distance": found[0][1].spacing[2],
            "level": np.mean([np.median(scan.data[indices == 1]) for _, scan, indices in found]),
            "noise": np.mean([noise_ratio(scan, indices) for _, scan, indices in found]),
            "shading": np.mean([shading(scan, indices) for _, scan, indices in found]),
            "view": np.mean([scan.spacing[0] * scan.data.shape[0] for _, scan, _ in found]),
        }
        for name, found in sites.items()
    }
    for fact, least in (
        ("pixel", 1.1),
        ("distance", 1.2),
        ("level", 3),
        ("noise", 1.8),
        ("shading", 1.1),
        ("view", 1.2),
    ):
        values = [site[fact] for site in facts.values()]
        assert max(values) > least * min(values), (fact, values)
    # every two sites are told apart by something
    for a in facts.values():
        for b in facts.values():
            assert a is b or any(max(a[fact], b[fact]) > 1.15 * min(a[fact], b[fact]) for fact in a)


def shading(scan: Scan, indices: np.ndarray) -> float:
    """The RV's blood relative to the LV's, which lies farther from the coils on the chest."""
    return float(np.median(scan.data[indices == 3]) / np.median(scan.data[indices == 1]))


def noise_ratio(scan: Scan, indices: np.ndarray) -> float:
    """Brightness of the darkest part of the image, which is air and lung, relative to blood."""
    return float(np.percentile(scan.data, 4) / np.median(scan.data[indices == 1]))


def test_affines_hold_true_spacing_and_orientation(volumes: dict[str, list[Volume]]) -> None:
    for _, scan, _ in volumes["acdc"]:
        assert np.count_nonzero(scan.affine[:3, :3]) == 3
    directions = []
    for _, scan, _ in volumes["mnms"]:
        axes = scan.affine[:3, :3] / scan.spacing
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
        assert abs(axes).max() < 0.999  # no axis lies along the world's
        directions.append(axes[:, 2])
    assert len({tuple(d.round(4)) for d in directions}) == 6


def test_rv_is_left_of_the_lv_in_the_common_orientation(volumes: dict[str, list[Volume]]) -> None:
    for found in volumes.values():
        for ref, scan, indices in found:
            seen = to_slices(indices, find_orientation(scan.affine, scan.data.shape))
            lv, rv = (np.argwhere(seen == index).mean(0) for index in (1, 3))
            assert rv[2] < lv[2], ref.id
            assert abs(rv[1] - lv[1]) < abs(rv[2] - lv[2]), ref.id


def test_equal_seed_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_phantom(tmp_path / name, patients=2, cross_patients=1, seed=seed, size=48)
    files = {
        n: {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "abc"
    }
    assert len(files["a"]) == 2 * 5 + 2 * 1 + 3
    assert files["a"] == files["b"]
    volumes = Path("acdc/volumes.csv")
    assert files["a"][volumes] != files["c"][volumes]


def test_more_patients_leave_the_first_ones_alone(tmp_path: Path) -> None:
    for name, patients in (("a", 1), ("b", 2)):
        write_phantom(tmp_path / name, patients=patients, seed=0, size=48)
    first = "mnms/Training/Labeled/P0H0N0/P0H0N0_sa.nii.gz"
    assert (tmp_path / "a" / first).read_bytes() == (tmp_path / "b" / first).read_bytes()


def test_size_sets_the_resolution_and_nothing_else(tmp_path: Path) -> None:
    found: list[Any] = []
    for size in (96, 192):
        folder = write_phantom(tmp_path / str(size), patients=1, cross_patients=0, size=size)["acdc"]
        (_, scan, indices), _ = read_all(folder)
        assert scan.data.shape[0] == size
        found.append(scan.spacing[:2] * scan.data.shape[:2])
        found.append([(indices == index).sum() * np.prod(scan.spacing) for index in CLASSES])
    np.testing.assert_allclose(found[0], found[2], rtol=0.02)
    np.testing.assert_allclose(found[1], found[3], rtol=0.04)


def test_patients_of_an_earlier_call_are_never_mixed_in(tmp_path: Path) -> None:
    write_phantom(tmp_path, patients=1, cross_patients=0, size=48)
    with pytest.raises(CoopsegError, match=r"acdc: exists and is not an empty folder; choose another `out`$"):
        write_phantom(tmp_path, patients=1, cross_patients=0, size=48)


def test_no_patient_is_called_as_one_of_acdc(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path, patients=2, cross_patients=0, size=48)["acdc"]
    real = {f"patient{number:03d}" for number in range(1, 151)}
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"patientP001", "patientP002"}
    assert not real & set(open_dataset(folder).patients)
