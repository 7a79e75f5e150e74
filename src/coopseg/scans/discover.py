"""Decides which files are scans, which are label maps, and which are passed over and why."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.types import PassedOver

NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
OTHER_FORMATS = re.compile(
    r"\.(nrrd|nhdr|mha|mhd|img|dcm|ima|mgz|mgh|mnc|gipl|nii\.(zip|bz2|xz|zst))$", re.IGNORECASE
)
LABEL_MARKS = ("_gt", "_seg", "_label", "_mask")  # as they are shown; any case, - for _, and in front too
_MARK = "(?:labels?|segs?|segmentations?|masks?|gt|ground[_-]?truth)"
MARKED = re.compile(rf"^{_MARK}[_-](?P<after>.+)$|^(?P<before>.+)[_-]{_MARK}$", re.IGNORECASE)
LABEL_FOLDER = re.compile(
    r"(labels?|segs?|segmentations?|masks?|gt|ground[_-]?truth|predictions?)(tr|ts|val|[_-].*)?",
    re.IGNORECASE,
)
PHASE = re.compile(r"^(?P<patient>.+)_(?P<phase>ED|ES|frame\d+)$", re.IGNORECASE)
LABEL_MAP, OTHER_FORMAT = "label map by its name", "another format; convert it to .nii.gz"


def is_nifti(path: Path) -> bool:
    """Tells whether a file is NIfTI by its name; hidden files (macOS writes ._X.nii.gz beside X) are not."""
    return NIFTI.search(path.name) is not None and not path.name.startswith(".")


def is_scan_like(path: Path) -> bool:
    """Tells whether a file is an image by its name, in a format that can be read or another."""
    return is_nifti(path) or (OTHER_FORMATS.search(path.name) is not None and not path.name.startswith("."))


def is_lost(path: Path) -> bool:
    """Tells whether `path` is a link to nothing, as a DataLad clone has before its content is fetched."""
    return os.path.islink(path) and not os.path.exists(path)  # False too for a name that no file can have


def check_found(paths: Sequence[Path]) -> None:
    """Raise CoopsegError for the first of `paths` if they are links to nothing."""
    if paths:
        others = f", as are {len(paths) - 1} more" if len(paths) > 1 else ""
        raise CoopsegError(
            f"{paths[0]}: a link to nothing{others}; fetch what it links to or remove it", rule="missing-file"
        )


def stem(path: Path) -> str:
    """Returns the file name without .nii or .nii.gz, in any case."""
    return NIFTI.sub("", path.name)


def unmarked(path: Path) -> str | None:
    """Returns the name of the image of a label map: X for X_gt, X-Seg, label_X; None without such a mark."""
    match = MARKED.match(stem(path))
    return match and (match["before"] or match["after"])


def files_below(folder: Path) -> Iterator[Path]:
    """Yields all files below a folder, sorted by path, without hidden ones; links to folders are followed.

    Links to nothing are among them. A folder that can be reached in two ways is searched once.
    """
    seen, found = set(), []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [] if os.path.realpath(place) in seen else [f for f in folders if not f.startswith(".")]
        if os.path.realpath(place) not in seen:
            found += [Path(place, file) for file in files if not file.startswith(".")]
        seen.add(os.path.realpath(place))
    yield from sorted(found)


def niftis_in(folder: Path) -> list[Path]:
    """Lists the NIfTI files directly in `folder`, by name; pipes and links to nothing are among them."""
    return sorted(path for path in folder.glob("*") if is_nifti(path) and not path.is_dir())


def by_name(folder: Path) -> dict[str, list[Path]]:
    """Groups the NIfTI files directly in `folder` by their `stem`."""
    groups: dict[str, list[Path]] = {}
    for path in niftis_in(folder):
        groups.setdefault(stem(path), []).append(path)
    return groups


def only_label(paths: Sequence[Path]) -> Path | None:
    """Returns the label map of an image, None if there is none. Raises CoopsegError for two."""
    if len(paths) > 1:
        raise CoopsegError(
            f"{paths[0]}: a label map of the same image as {paths[1]}; remove one, or list the right one "
            'under "items" in dataset.json',
            rule="duplicate-label",
        )
    return paths[0] if paths else None


def patient_and_phase(name: str) -> tuple[str, str]:
    """Splits "p01_ED" into ("p01", "ED"), "p01_frame07" into ("p01", "frame07"), others into (name, "").

    Two phases of one person must share a patient name, or a split by patient would put them on both sides.
    """
    match = PHASE.match(name)
    if match is None:
        return name, ""
    phase = match["phase"]
    return match["patient"], phase.upper() if phase.upper() in ("ED", "ES") else phase


def summarise(passed_over: Iterable[PassedOver]) -> str:
    """Counts what was passed over in one line, by reason: "3 passed over: in a sub-folder (3)", or ""."""
    counts = Counter(entry.reason.partition(";")[0] for entry in passed_over)
    listed = ", ".join(f"{reason} ({count})" for reason, count in counts.items())
    return f"{counts.total()} passed over: {listed}" if counts else ""


def expand_scans(paths: Sequence[str | Path]) -> tuple[list[Path], list[PassedOver]]:
    """Lists the scan files to predict: named files, all scans below folders, matches of patterns (*, ?, [).

    The order is as given, sorted within a folder or pattern, each file once. Folders pass over label maps
    (by the name of the file or of a folder below the given one) and other formats, which come second;
    patterns skip hidden files, and named files are kept. Raises CoopsegError if an entry yields nothing, for
    a link to nothing below a folder, and if a named file is not a NIfTI file.
    """
    passed_over: list[PassedOver] = []
    found = [scan for entry in paths for scan in _expand(str(entry), passed_over)]
    if not found:
        raise CoopsegError("no scan was given; name .nii or .nii.gz files, folders or patterns")
    scans = list(dict.fromkeys(found))
    return scans, [entry for entry in dict.fromkeys(passed_over) if entry.path not in scans]


def _expand(entry: str, passed_over: list[PassedOver]) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        files = [
            file for file in files_below(path) if is_scan_like(file) or (is_lost(file) and not file.suffix)
        ]
        check_found([file for file in files if is_lost(file)])
    elif path.is_file():
        if not is_nifti(path) and not NIFTI.search(path.name):
            raise CoopsegError(f"{path}: not a .nii or .nii.gz file; convert it to NIfTI")
        return [path]
    elif path.exists():
        raise CoopsegError(f"{path}: not a regular file; give a .nii or .nii.gz scan")
    elif not glob.has_magic(entry):
        raise CoopsegError(f"{entry}: no such file or folder; check the path")
    else:
        files = [file for file in map(Path, sorted(glob.glob(entry, recursive=True))) if is_scan_like(file)]
    reasons = {file: _reason(file, path) for file in files}
    scans = [file for file, reason in reasons.items() if not reason]
    if not scans:
        raise CoopsegError(
            f"{entry}: no scan found; looked for .nii and .nii.gz files that are not label maps"
        )
    passed_over += [PassedOver(file, reason) for file, reason in reasons.items() if reason]
    return scans


def _reason(file: Path, entry: Path) -> str:
    """Says why a file is passed over, "" if it is not. entry: the folder it was found below, or a pattern."""
    if not is_nifti(file):
        return OTHER_FORMAT
    if not entry.is_dir():
        return ""
    folders = (entry.absolute().name, *file.relative_to(entry).parts[:-1])
    in_labels = any(LABEL_FOLDER.fullmatch(folder) for folder in folders)
    return LABEL_MAP if in_labels or unmarked(file) else ""
