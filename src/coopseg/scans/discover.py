"""Decides which files are scans, for prediction and for layouts that go by file name."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from coopseg.errors import CoopsegError

SUFFIXES = (".nii.gz", ".nii")
LABEL_MARKS = ("_gt", "_seg", "_label", "_mask")
LABEL_FOLDERS = ("labels", "labelsTr", "labelsTs")
PHASE = re.compile(r"^(?P<patient>.+)_(?P<phase>ED|ES|frame\d+)$", re.IGNORECASE)


def is_nifti(path: Path) -> bool:
    """Tells whether a file is NIfTI by its name; hidden files (macOS writes ._X.nii.gz beside X) are not."""
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """Returns the file name without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def has_label_mark(path: Path) -> bool:
    """Tells whether the file name marks a label map: X_gt, X_seg, X_label, X_mask."""
    return stem(path).endswith(LABEL_MARKS)


def is_label(path: Path) -> bool:
    """Tells whether the name of the file or of its folder marks a label map."""
    return has_label_mark(path) or path.parent.name in LABEL_FOLDERS


def niftis_in(folder: Path) -> list[Path]:
    """Lists the NIfTI files directly in `folder`, sorted by name."""
    return sorted(path for path in folder.glob("*") if is_nifti(path) and path.is_file())


def patient_and_phase(name: str) -> tuple[str, str]:
    """Splits "p01_ED" into ("p01", "ED"), "p01_frame07" into ("p01", "frame07"), others into (name, "").

    Two phases of one person must share a patient name, or a split by patient would put them on both sides.
    """
    match = PHASE.match(name)
    if match is None:
        return name, ""
    phase = match["phase"]
    return match["patient"], phase.upper() if phase.upper() in ("ED", "ES") else phase


def expand_scans(paths: Sequence[str | Path]) -> list[Path]:
    """Lists the scan files to predict: named files, all scans below folders, matches of patterns (*, ?, [).

    The order is as given, sorted within a folder or pattern, each file once. Folders skip label maps
    (`is_label`) and hidden files, patterns skip hidden files, and named files are kept. Raises CoopsegError
    if an entry yields nothing or a named file is not a NIfTI file.
    """
    found = [scan for entry in paths for scan in _expand(str(entry))]
    if not found:
        raise CoopsegError("no scan was given; name .nii or .nii.gz files, folders or patterns")
    return list(dict.fromkeys(found))


def _expand(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        scans = sorted(scan for scan in path.rglob("*.nii*") if is_nifti(scan) and scan.is_file())
        scans = [scan for scan in scans if not is_label(scan)]
    elif path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise CoopsegError(f"{path}: not a .nii or .nii.gz file; convert it to NIfTI")
        scans = [path]
    else:
        scans = [scan for scan in map(Path, sorted(glob.glob(entry, recursive=True))) if is_nifti(scan)]
    if not scans:
        raise CoopsegError(
            f"{entry}: no scan found; looked for .nii and .nii.gz files that are not label maps"
        )
    return scans
