"""All at once: one fault hides no other, and what makes no sense is refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coopseg.checks import volumes
from coopseg.checks.rules import Report
from coopseg.checks.validate import validate_dataset
from coopseg.errors import CoopsegError


def found(report: Report) -> list[tuple[str, str]]:
    return [(finding.rule, finding.file) for finding in report.findings]


def test_nothing_is_wrong(clean: Path) -> None:
    report = validate_dataset(clean)
    crop = (
        "the crop of 192 x 192 pixels of 1.36719 mm cuts up to 0.1% of a class; "
        "4.2% of voxels are clipped to percentiles 2 to 98"
    )
    assert report == Report(clean, "folder", 4, 5, (), crop=crop)


def test_the_phantom_has_no_error(phantom: dict[str, Path]) -> None:
    for name, folder in phantom.items():
        report = validate_dataset(folder)
        assert (report.layout, report.patients, report.volumes, report.errors) == (name, 6, 12, 0)


def test_every_fault_at_once(clean: Path, save: Callable[..., Path], drawn: np.ndarray) -> None:
    """A truncated image in a wrong grid, a broken label, an unnamed value, a bad list, a wrong split.

    The warning on the second volume comes last.
    """
    moved = np.diag([-1.5, -1.5, 800, 1])
    image = save(clean / "images/b.nii.gz", np.random.default_rng(9).random((12, 10, 4)), moved)
    image.write_bytes(image.read_bytes()[:-30])
    (clean / "labels/c.nii.gz").write_bytes(b"")
    label = drawn.copy()
    label[0] = 7
    save(clean / "labels/a_ES.nii.gz", drawn % 3)
    save(clean / "labels/d.nii.gz", label)
    (clean / "labels/a_ED.nii.gz").unlink()
    save(clean / "labels/orphan.nii.gz", drawn)
    split = clean / "split.json"
    split.write_text(json.dumps({"train": ["a", "x"], "validate": ["a"], "test": []}))
    report = validate_dataset(clean, splits=[split, "random"])
    assert found(report) == [
        ("label-without-image", "labels/orphan.nii.gz"),
        ("split-overlap", str(split)),
        ("split-unknown", str(split)),
        ("label-missing", "images/a_ED.nii.gz"),
        ("spacing-extreme", "images/b.nii.gz"),
        ("truncated", "images/b.nii.gz"),
        ("grid", "labels/b.nii.gz"),
        ("unreadable", "labels/c.nii.gz"),
        ("label-unnamed", "labels/d.nii.gz"),
        ("class-absent", "labels/a_ES.nii.gz"),
    ]
    assert (report.errors, report.warnings) == (9, 1)


def test_only_patients_of_the_splits_need_labels(clean: Path) -> None:
    (clean / "labels/c.nii.gz").unlink()
    (clean / "labels/d.nii.gz").unlink()
    split = clean / "split.json"
    split.write_text(json.dumps({"train": ["a"], "validate": ["d"]}))
    assert found(validate_dataset(clean, splits=[split])) == [("label-missing", "images/d.nii.gz")]


def test_what_all_files_share_is_said_once(clean: Path) -> None:
    for label in (clean / "labels").iterdir():
        label.unlink()
    report = validate_dataset(clean)
    assert found(report) == [("label-missing", "")]
    assert report.findings[0].found == "all 5 files: no label map"


def test_acdc_with_a_patient_in_training_and_testing(phantom: dict[str, Path], tmp_path: Path) -> None:
    for part, patients in (("training", (1, 2, 3)), ("testing", (3, 4))):
        for number in patients:
            shutil.copytree(phantom["acdc"] / f"patientP00{number}", tmp_path / part / f"patientP00{number}")
    (tmp_path / "training/patientP001/Info.cfg").write_text("ED: 1\n")  # ES is lost, ED is not
    report = validate_dataset(tmp_path)
    assert [(f.rule, f.file.split("/")[:2]) for f in report.findings if f.severity == "error"] == [
        ("layout", ["training", "patientP001"]),
        ("duplicate-case", ["training", "patientP003"]),
        ("duplicate-case", ["training", "patientP003"]),
    ]
    assert report.volumes == 9
    assert "patient-in-two-folders" not in {finding.rule for finding in report.findings}  # said already


def test_a_layout_that_cannot_be_opened(tmp_path: Path) -> None:
    report = validate_dataset(tmp_path)
    assert (report.layout, report.volumes, found(report)) == ("", 0, [("layout", "")])
    assert report.findings[0].found == "no data set recognised"
    (tmp_path / "dataset.json").write_text("{")
    assert found(validate_dataset(tmp_path)) == [("layout", "dataset.json")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "bids"}, 'layout "bids" is not known'),
        ({"labels": "LV"}, "write it as LV=1"),
        ({"splits": ["acdc-11"]}, "acdc-11: no such split"),
    ],
)
def test_arguments_that_make_no_sense(clean: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CoopsegError, match=message):
        validate_dataset(clean, **options)
    with pytest.raises(CoopsegError, match="no such folder"):
        validate_dataset(clean / "none")


def test_names_can_be_given(clean: Path) -> None:
    (clean / "dataset.json").unlink()
    assert found(validate_dataset(clean)) == [("names-missing", "")]
    assert found(validate_dataset(clean, labels="LV=1,MYO=2,RV=3")) == []
    assert {rule for rule, _ in found(validate_dataset(clean, labels="LV=1,MYO=2"))} == {"label-unnamed"}


def test_processes_change_nothing(clean: Path) -> None:
    (clean / "images/c.nii.gz").write_bytes(b"x" * 600)
    assert validate_dataset(clean, workers=2) == validate_dataset(clean)


def test_every_file_is_read_once(phantom: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[Path] = Counter()
    for name in ("read_image", "read_labels"):
        reader = getattr(volumes, name)
        monkeypatch.setattr(
            volumes, name, lambda path, reader=reader: (reads.update([path]), reader(path))[1]
        )
    for folder in phantom.values():
        validate_dataset(folder)
    assert len(reads) == 24 + 12  # ACDC has a file a phase, M&Ms one for both
    assert set(reads.values()) == {1}


def test_progress(clean: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    validate_dataset(clean, progress=lambda *words: seen.append(words))
    assert seen == [(n, 5, case) for n, case in enumerate(("a_ED", "a_ES", "b", "c", "d"), start=1)]


@pytest.mark.real
def test_real_data_sets(real_data: Path) -> None:
    """ACDC has one scan under two patient names, each with contours of its own; the crop cuts a little RV."""
    assert found(validate_dataset(real_data / "mnms")) == []
    assert found(validate_dataset(real_data / "acdc")) == [
        *(("identical-images", f"patient076/patient076_frame0{frame}.nii.gz") for frame in (1, 2)),
        ("crop-cuts", ""),
    ]
