"""M&Ms as downloaded (Campello et al. 2021): a csv, and CODE/CODE_sa.nii.gz below Training and others."""

from __future__ import annotations

import csv
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.types import Dataset, Labels, ScanRef

COLUMNS = ("External code", "VendorName", "Vendor", "Centre", "ED", "ES")
PARTS = ("Training/Labeled", "Training/Unlabeled", "Validation", "Testing")
LOOKED_FOR = f"a csv with the columns {', '.join(COLUMNS)} beside {', '.join(PARTS)}"
LABELS = Labels(("background", "LV", "MYO", "RV"), (0, 1, 2, 3))
PHASES = ("ED", "ES")


def recognise(path: Path) -> bool:
    """Whether a csv with the columns of M&Ms lies in `path`."""
    return _table(path) is not None


def open_layout(path: Path, labels: Labels | None = None) -> Dataset:
    """ED and ES of every subject of the csv whose folder is there, by subject then phase.

    The site is "VendorName/Centre". Subjects of the csv that were not downloaded are passed over, and so are
    those below Training/Unlabeled for which it names no frames; a missing label file leaves the label None.
    Raises CoopsegError for a csv that lacks the frames of another subject.
    """
    table = _table(path)
    if table is None:
        raise CoopsegError(f"{path}: not the M&Ms layout; looked for {LOOKED_FOR}")
    items = [item for row in _rows(table) for item in _subject(path, table, row)]
    return Dataset("M&Ms", path, "mnms", labels or LABELS, tuple(items))


def _table(path: Path) -> Path | None:
    for table in sorted(path.glob("*.csv")):
        with open(table, newline="", encoding="utf-8-sig", errors="replace") as file:
            if set(COLUMNS) <= {cell.strip() for cell in next(csv.reader(file), [])}:
                return table
    return None


def _rows(table: Path) -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8-sig", errors="replace") as file:
        header, *lines = list(csv.reader(file))
    names = [cell.strip() for cell in header]
    rows = [dict(zip(names, (cell.strip() for cell in line), strict=False)) for line in lines if any(line)]
    return sorted(rows, key=lambda row: row.get("External code", ""))


def _subject(path: Path, table: Path, row: dict[str, str]) -> list[ScanRef]:
    code = row.get("External code", "")
    images = [path / part / code / f"{code}_sa.nii.gz" for part in PARTS]
    image = next((image for image in images if code and image.is_file()), None)
    if image is None or ("Unlabeled" in image.parts and not any(row.get(phase) for phase in PHASES)):
        return []
    label = image.with_name(f"{code}_sa_gt.nii.gz")
    site = f"{row.get('VendorName', '')}/{row.get('Centre', '')}"
    return [
        ScanRef(code, image, label if label.is_file() else None, phase, _frame(row, phase, table), site)
        for phase in PHASES
    ]


def _frame(row: dict[str, str], phase: str, table: Path) -> int:
    """Frame index counted from 0; a spreadsheet may have made it "10.0"."""
    text = row.get(phase, "").removesuffix(".0")
    if not text.isdigit():
        raise CoopsegError(
            f'{table}: column {phase} of {row["External code"]} holds "{text}"; write a frame counted from 0'
        )
    return int(text)
