"""Decides which files are scans, which are label maps, and which are passed over and why."""

from __future__ import annotations

import glob
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.names import NIFTI, stem
from coopseg.scans.types import PassedOver
from coopseg.text import counted

log = logging.getLogger(__name__)
PATIENCE = 5.0  # seconds between two lines on a folder that takes long to list
OTHER_FORMATS = re.compile(
    r"\.(nrrd|nhdr|mha|mhd|img|dcm|ima|mgz|mgh|mnc|gipl|nii\.(zip|bz2|xz|zst)|png|jpe?g|tiff?|bmp)$",
    re.IGNORECASE,
)
LABEL_MARKS = ("_gt", "_seg", "_label", "_mask")  # as they are shown; any case, - for _, and in front too
_MARK = "(?:labels?|segs?|segmentations?|masks?|gt|ground[_-]?truth)"
MARKED = re.compile(rf"^{_MARK}[_-](?P<after>.+)$|^(?P<before>.+)[_-]{_MARK}$", re.IGNORECASE)
LABEL_FOLDER = re.compile(
    r"(labels?|segs?|segmentations?|masks?|gt|ground[_-]?truth|predictions?)(tr|ts|val|[_-].*)?",
    re.IGNORECASE,
)
LABEL_MAP, OTHER_FORMAT = "label map by its name", "another format; convert it to .nii.gz"


@contextmanager
def telling(
    folder: str | Path, doing: Callable[[], str] = lambda: "still listing its files"
) -> Iterator[None]:
    """Logs a line now and then on what the block is `doing`: to list a million files takes a minute."""
    done = threading.Event()

    def tell() -> None:
        started = time.monotonic()
        while not done.wait(PATIENCE):
            log.info("%s: %s, after %.0f s", folder, doing(), time.monotonic() - started)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


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


def alike(path: Path) -> Path | None:
    """Returns the file beside `path`, which is not there, whose name says the same; None if there is none.

    Such a name differs in case, in the form of Unicode, or in .nii for .nii.gz alone.
    """
    try:
        beside = [path.with_name(name) for name in sorted(os.listdir(path.parent))]
    except (OSError, ValueError):  # there is no such folder, or none can have that name
        return None
    wanted = stem(path).casefold()
    return next((file for file in beside if is_nifti(file) and stem(file).casefold() == wanted), None)


def unmarked(path: Path) -> str | None:
    """Returns the name of the image of a label map: X for X_gt, X-Seg, label_X; None without such a mark."""
    match = MARKED.match(stem(path))
    return match and (match["before"] or match["after"])


def missing_file(path: Path, shown: str | Path, why: str, do: str) -> CoopsegError:
    """Makes the error for a file that is not there. shown: its path in a message. why: who names it.

    do: the advice, unless a file of nearly that name lies there, which the user should hear of.
    """
    there = alike(path)
    if there is not None:
        why, do = f"{why}, and {there.name} lies there", "correct the one name or the other"
    return CoopsegError(f"{shown}: not found, but {why}; {do}", rule="missing-file")


def files_below(folder: Path) -> Iterator[Path]:
    """Yields all files below a folder, sorted by path, without hidden ones; links to folders are followed.

    Links to nothing are among them. A folder that can be reached in two ways is searched once.
    """
    yield from sorted(path for files in walk(folder) for path in files)


def walk(folder: Path) -> Iterator[list[Path]]:
    """Yields the files of a folder and of each one below it, as `files_below` does, but as they are found."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [] if os.path.realpath(place) in seen else [f for f in folders if not f.startswith(".")]
        if os.path.realpath(place) not in seen:
            yield [Path(place, file) for file in files if not file.startswith(".")]
        seen.add(os.path.realpath(place))


def niftis_in(folder: Path) -> list[Path]:
    """Lists the NIfTI files directly in `folder`, by name; pipes and links to nothing are among them."""
    return sorted(path for path in folder.glob("*") if is_nifti(path) and not path.is_dir())


def others_in(*folders: Path) -> str:
    """Says which files directly in `folders` are images in formats that cannot be read, "" for none."""
    files = [file for folder in folders for file in sorted(folder.glob("*")) if not file.name.startswith(".")]
    endings = Counter(match[0].lower() for file in files if (match := OTHER_FORMATS.search(file.name)))
    listed = ", ".join(counted(count, f"{ending} file") for ending, count in endings.items())
    return f"{listed}, which cannot be read" if listed else ""


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


def summarise(passed_over: Iterable[PassedOver]) -> str:
    """Counts what was passed over in one line, by reason: "3 passed over: in a sub-folder (3)", or ""."""
    counts = Counter(entry.reason.partition(";")[0] for entry in passed_over)
    listed = ", ".join(f"{reason} ({count})" for reason, count in counts.items())
    return f"{counts.total()} passed over: {listed}" if counts else ""


def expand_scans(
    paths: Sequence[str | Path], lost: list[Path] | None = None
) -> tuple[list[Path], list[PassedOver]]:
    """Lists the scan files to predict: named files, all scans below folders, matches of patterns (*, ?, [).

    The order is as given, sorted within a folder or pattern, each file once. Folders pass over label maps
    (by the name of the file or of a folder below the given one) and other formats, which come second;
    patterns skip hidden files, and named files are kept. lost: collects links to nothing below folders.
    Raises CoopsegError if an entry yields nothing, for a link to nothing without `lost` or where there is
    nothing else, and if a named file is not a NIfTI file.
    """
    passed_over: list[PassedOver] = []
    found: list[Path] = []
    for entry in paths:
        with telling(entry):
            found += _expand(str(entry), passed_over, lost)
    if not found:
        raise CoopsegError("no scan was given; name .nii or .nii.gz files, folders or patterns")
    scans = list(dict.fromkeys(found))
    return scans, [entry for entry in dict.fromkeys(passed_over) if entry.path not in scans]


def _expand(entry: str, passed_over: list[PassedOver], lost: list[Path] | None) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        files = [
            file for file in files_below(path) if is_scan_like(file) or (is_lost(file) and not file.suffix)
        ]
        links = [f for f in files if is_lost(f) and not (is_nifti(f) and _reason(f, path))]
        files = [file for file in files if not is_lost(file)]
        if lost is None or all(_reason(file, path) for file in files):
            check_found(links)
        else:
            lost += links
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
    left = [PassedOver(file, reason) for file, reason in reasons.items() if reason]
    if not scans:
        found = f" ({summarise(left)})" if left else ""
        raise CoopsegError(
            f"{entry}: no scan found{found}; looked for DICOM, and for .nii and .nii.gz files that are not "
            "label maps"
        )
    passed_over += left
    return scans


def _reason(file: Path, entry: Path) -> str:
    """Says why a file is passed over, "" if it is not. entry: the folder it was found below, or a pattern."""
    if not is_nifti(file):
        return OTHER_FORMAT
    if not entry.is_dir():
        return ""
    given = LABEL_FOLDER.fullmatch(entry.absolute().name)
    plain = given is not None and not (given[2] or "").startswith(("_", "-"))  # not such as label_study
    in_labels = any(LABEL_FOLDER.fullmatch(folder) for folder in file.relative_to(entry).parts[:-1])
    return LABEL_MAP if plain or in_labels or unmarked(file) else ""


def expand_label_maps(entry: Path) -> list[Path]:
    """Lists label maps: a named file, those below a folder, matches of a pattern (*, ?, [).

    Below a folder in which names or folders mark some files as label maps, such as X_gt, the others are taken
    for their images and left out. Raises CoopsegError if there is none, and for a link to nothing.
    """
    if not entry.is_dir():
        return _expand(str(entry), [], None)
    with telling(entry):
        files = [file for file in files_below(entry) if is_nifti(file)]
    if not files:
        raise CoopsegError(f"{entry}: no label map found; looked for .nii and .nii.gz files")
    marked = [file for file in files if _reason(file, entry) == LABEL_MAP]
    check_found([file for file in marked or files if is_lost(file)])
    return marked or files
