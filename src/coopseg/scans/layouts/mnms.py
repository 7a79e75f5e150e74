"""Lists M&Ms as downloaded (Campello et al. 2021): a csv, CODE/CODE_sa.nii.gz below Training and others."""

from __future__ import annotations

import csv
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.files import is_file
from coopseg.scans.layouts.description import Problems, keep
from coopseg.scans.types import Dataset, Labels, ScanRef
from coopseg.text import read_text, shorten, whole_number

COLUMNS = ("External code", "VendorName", "Vendor", "Centre", "ED", "ES")
PARTS = ("Training/Labeled", "Training/Unlabeled", "Validation", "Testing")
LOOKED_FOR = f"a csv with the columns {', '.join(COLUMNS)} beside {', '.join(PARTS)}"
LABELS = Labels(("background", "LV", "MYO", "RV"), (0, 1, 2, 3))
PHASES = ("ED", "ES")


def recognise(path: Path) -> bool:
    """Tells whether a csv with the columns of M&Ms lies in `path`."""
    return _table(path) is not None


def open_layout(path: Path, labels: Labels | None = None, problems: Problems = None) -> Dataset:
    """Lists ED and ES of every subject of the csv whose image is there, by subject then phase.

    The site is "VendorName/Centre". Subjects that were not downloaded are skipped, and so are those below
    Training/Unlabeled for which the csv names no frames. A missing label file leaves the label None.
    Raises CoopsegError if the csv lacks the frames of any other subject.
    """
    table = _table(path)
    if table is None:
        raise CoopsegError(f"{path}: not the M&Ms layout; looked for {LOOKED_FOR}")
    items = [item for row in _rows(table) for item in _subject(path, table, row, problems)]
    return Dataset("M&Ms", path, "mnms", labels or LABELS, tuple(items))


def _table(path: Path) -> Path | None:
    for table in sorted(path.glob("*.csv")):
        try:
            with open(table, newline="", encoding="utf-8-sig", errors="replace") as file:
                if set(COLUMNS) <= {cell.strip() for cell in next(csv.reader(file), [])}:
                    return table
        except (OSError, csv.Error):  # not a csv, despite its name
            continue
    return None


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        header, *lines = list(csv.reader(read_text(table).splitlines(keepends=True), strict=True))
    except csv.Error as error:
        raise CoopsegError(f"{table}: cannot be read as CSV ({error}); copy it again") from None
    names = [cell.strip() for cell in header]
    rows = [dict(zip(names, (cell.strip() for cell in line), strict=False)) for line in lines if any(line)]
    return sorted(rows, key=lambda row: row.get("External code", ""))


def _subject(path: Path, table: Path, row: dict[str, str], problems: Problems) -> list[ScanRef]:
    code = row.get("External code", "")
    images = [path / part / code / f"{code}_sa.nii.gz" for part in PARTS]
    image = next((image for image in images if code and is_file(image)), None)
    if image is None or ("Unlabeled" in image.parts and not any(row.get(phase) for phase in PHASES)):
        return []
    label = image.with_name(f"{code}_sa_gt.nii.gz")
    drawn = label if label.is_file() else None
    site = f"{row.get('VendorName', '')}/{row.get('Centre', '')}"
    items = []
    for phase in PHASES:
        with keep(problems):
            items.append(ScanRef(code, image, drawn, phase, _frame(row, phase, table), site))
    return items


def _frame(row: dict[str, str], phase: str, table: Path) -> int:
    """Reads a frame index, counted from 0; a spreadsheet may have made it "10.0"."""
    text = row.get(phase, "")
    frame = whole_number(text.removesuffix(".0"))
    if frame is None:
        raise CoopsegError(
            f"{table}: column {phase} of {row['External code']} holds {shorten(text)}; "
            "write a frame counted from 0"
        )
    return frame
