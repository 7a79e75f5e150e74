"""Lists two cardiac challenges as downloaded: ACDC (Bernard et al. 2018) and M&Ms (Campello et al. 2021)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.discover import by_name, is_lost, missing_file, only_label
from coopseg.scans.files import is_file, is_folder
from coopseg.scans.layouts.found import Found, Layout, Problems, keep
from coopseg.scans.names import stem
from coopseg.scans.types import Labels, PassedOver, ScanRef
from coopseg.text import open_regular, read_text, shorten, whole_number

PHASES = ("ED", "ES")
ACDC_LABELS = Labels(("background", "RV", "MYO", "LV"), (0, 1, 2, 3))
ACDC_PARTS = ("", "training/", "testing/", "database/training/", "database/testing/")
CONFIG = "Info.cfg"

COLUMNS = ("External code", "VendorName", "Vendor", "Centre", "ED", "ES")
MNMS_PARTS = ("Training/Labeled", "Training/Unlabeled", "Validation", "Testing")
MNMS_LABELS = Labels(("background", "LV", "MYO", "RV"), (0, 1, 2, 3))


def _patients(path: Path) -> list[Path]:
    """Lists the patient folders of ACDC, by name."""
    found = {folder for part in ACDC_PARTS for folder in path.glob(f"{part}patient*")}
    folders = (folder for folder in found if folder.is_dir() or is_lost(folder))
    return sorted(folders, key=lambda folder: (folder.name, folder))


def _list_acdc(path: Path, labels: Labels | None, problems: Problems) -> Found:
    """Lists ED and ES of every patient, by patient then phase. A missing label file leaves the label None.

    Raises CoopsegError for an Info.cfg without frame numbers and for an image that is not there.
    """
    items, places, passed_over = [], [], []
    for folder in _patients(path):
        if not is_lost(folder) and not (folder / CONFIG).exists():
            passed_over.append(PassedOver(folder, f"without {CONFIG}; copy it from the download again"))
            continue
        own = [] if is_lost(folder) else list(_patient(folder, problems))
        items += own
        if is_lost(folder) or len(own) == len(PHASES):
            places.append(folder)
    tests = [item for item in items if item.image.parent.parent.name == "testing"]
    return Found("ACDC", labels or ACDC_LABELS, items, tests, places, _why_not_acdc, passed_over)


def _why_not_acdc(file: Path) -> str:
    return "" if stem(file).endswith("_4d") else f"neither ED nor ES by {CONFIG}"


def _patient(folder: Path, problems: Problems) -> list[ScanRef]:
    items: list[ScanRef] = []
    with keep(problems):
        entries, files = _entries(folder / CONFIG), by_name(folder)
        for phase in PHASES:
            with keep(problems):
                items.append(_volume(folder, files, phase, entries.get(phase, "")))
    return _apart(items, folder / CONFIG, problems)


def _entries(config: Path) -> dict[str, str]:
    pairs = [line.partition(":") for line in read_text(config).split("\n")]
    keys = [key.strip() for key, _, _ in pairs]
    if twice := next((phase for phase in PHASES if keys.count(phase) > 1), None):
        raise CoopsegError(f"{config}: more than one line {twice}; leave the right one")
    return dict(zip(keys, (value for _, _, value in pairs), strict=True))


def _apart(items: list[ScanRef], file: Path, problems: Problems) -> list[ScanRef]:
    """Returns the volumes of a patient; none, and a problem, if ED and ES are the same by `file`."""
    if len({(item.image, item.frame) for item in items}) == len(items):
        return items
    with keep(problems):
        raise CoopsegError(f"{file}: ED and ES of {items[0].patient} are the same frame; correct it")
    return []


def _volume(folder: Path, files: dict[str, list[Path]], phase: str, number: str) -> ScanRef:
    """Makes one volume. number: the frame's, counted from 1, as text from the config."""
    config = folder / CONFIG
    frame = _frame_number(config, phase, number)
    name = f"{folder.name}_frame{frame:02d}"
    if name not in files:
        file = folder / f"{name}.nii.gz"
        raise missing_file(file, file, f"{config} names frame {frame} as {phase}", "copy it again")
    return ScanRef(folder.name, files[name][0], only_label(files.get(f"{name}_gt", ())), phase)


def _frame_number(config: Path, phase: str, text: str) -> int:
    """Reads the number of a frame, counted from 1."""
    frame = whole_number(text)
    if frame is None:
        raise CoopsegError(
            f'{config}: no line "{phase}: <frame number>"; copy the file from the download again'
        )
    return frame


ACDC = Layout(
    "patient*/Info.cfg (also below training/ and testing/)",
    lambda path: any((folder / CONFIG).exists() for folder in _patients(path)),
    _list_acdc,
)


def _list_mnms(path: Path, labels: Labels | None, problems: Problems) -> Found:
    """Lists ED and ES of every subject of the csv whose image is there, by subject then phase.

    The site is "VendorName/Centre". Subjects that were not downloaded are skipped, and so are those below
    Training/Unlabeled for which the csv names no frames. A missing label file leaves the label None.
    Raises CoopsegError if the csv lacks the frames of any other subject, and if its folder lacks the image.
    """
    table = _table(path)
    if table is None:
        raise CoopsegError(f"{path}: not the M&Ms layout; looked for {MNMS.looked_for}")
    items, places = [], [path / part for part in MNMS_PARTS if part != "Training/Unlabeled"]
    for row in _rows(table):
        with keep(problems):
            items += _subject(path, table, row, problems)
    tests = [item for item in items if item.image.parents[1].name in ("Validation", "Testing")]
    return Found("M&Ms", labels or MNMS_LABELS, items, tests, places, _why_not_mnms)


def _why_not_mnms(file: Path) -> str:
    return f"not called {file.parent.name}_sa or {file.parent.name}_sa_gt, or not in the csv"


def _table(path: Path) -> Path | None:
    for table in sorted(path.glob("*.csv")):
        try:
            with open_regular(table) as file:
                text = io.TextIOWrapper(file, newline="", encoding="utf-8-sig", errors="replace")
                if set(COLUMNS) <= {cell.strip() for cell in next(csv.reader(text), [])}:
                    return table
        except (OSError, csv.Error):  # not a csv, despite its name
            continue
    return None


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        header, *lines = csv.reader(io.StringIO(read_text(table)), strict=True)
    except csv.Error as error:
        raise CoopsegError(f"{table}: cannot be read as CSV ({error}); copy it again") from None
    names = [cell.strip() for cell in header]
    if twice := next((name for name in COLUMNS if names.count(name) > 1), None):
        raise CoopsegError(f"{table}: more than one column {twice}; leave the right one")
    if longer := next((line for line in lines if any(line[len(names) :])), None):
        raise CoopsegError(
            f"{table}: the row of {shorten(longer[0])} has more cells than there are columns; "
            "put a cell with a comma in quotes"
        )
    rows = [dict(zip(names, (cell.strip() for cell in line), strict=False)) for line in lines if any(line)]
    return sorted(rows, key=lambda row: row.get("External code", ""))


def _subject(path: Path, table: Path, row: dict[str, str], problems: Problems) -> list[ScanRef]:
    code = row.get("External code", "")
    folders = [path / part / code for part in MNMS_PARTS if code and is_folder(path / part / code)]
    files = next((files for folder in folders if f"{code}_sa" in (files := by_name(folder))), None)
    unlabelled = any("Unlabeled" in folder.parts for folder in folders)
    if not folders or (unlabelled and not any(row.get(phase) for phase in PHASES)):
        return []
    if files is None:
        file = folders[0] / f"{code}_sa.nii.gz"
        raise missing_file(file, file, f"{table} lists {code}", "copy it again")
    label = only_label(files.get(f"{code}_sa_gt", ()))
    site = f"{row.get('VendorName', '')}/{row.get('Centre', '')}"
    items = []
    for phase in PHASES:
        with keep(problems):
            items.append(ScanRef(code, files[f"{code}_sa"][0], label, phase, _frame(row, phase, table), site))
    return _apart(items, table, problems)


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


MNMS = Layout(
    f"a csv with the columns {', '.join(COLUMNS)} beside {', '.join(MNMS_PARTS)}",
    lambda path: _table(path) is not None,
    _list_mnms,
)


@dataclass(frozen=True)
class Examination:
    """Says what ACDC or M&Ms know of the patient of a file, beside what is in the file.

    ed, es: frames, counted from 0. height_cm, weight_kg: None where they are not given. labels: what the
    values of the data set's own label maps mean.
    """

    patient: str
    ed: int
    es: int
    height_cm: float | None
    weight_kg: float | None
    labels: Labels


def find_examination(file: Path) -> Examination | None:
    """Finds what ACDC's Info.cfg, or the table of M&Ms, says of the patient of a scan or label map.

    None for a file that does not lie in one of these layouts. Raises CoopsegError for an Info.cfg or a table
    that cannot be read.
    """
    file = file.absolute()
    code, config = file.parent.name, file.parent / CONFIG
    if is_file(config):
        entries = _entries(config)
        ed, es = (_frame_number(config, phase, entries.get(phase, "")) - 1 for phase in PHASES)
        return _examination(code, ed, es, entries, ACDC_LABELS)
    if stem(file) not in (f"{code}_sa", f"{code}_sa_gt"):
        return None
    roots = [file.parents[len(Path(part).parts) + 1] for part in MNMS_PARTS if _lies_in(file, part)]
    table = _table(roots[0]) if roots else None
    row = next((row for row in _rows(table) if row.get("External code") == code), None) if table else None
    if table is None or row is None or not all(row.get(phase) for phase in PHASES):
        return None
    ed, es = (_frame(row, phase, table) for phase in PHASES)
    return _examination(code, ed, es, row, MNMS_LABELS)


def _lies_in(file: Path, part: str) -> bool:
    """Tells whether a file lies in a patient's folder of a part of M&Ms, such as Training/Labeled."""
    wanted = Path(part).parts
    return file.parent.parent.parts[-len(wanted) :] == wanted


def _examination(patient: str, ed: int, es: int, entries: Mapping[str, str], labels: Labels) -> Examination:
    return Examination(patient, ed, es, _size(entries, "Height"), _size(entries, "Weight"), labels)


def _size(entries: Mapping[str, str], key: str) -> float | None:
    """Reads a height or a weight; 0 stands for one that is not known."""
    try:
        size = float(entries.get(key, ""))
    except ValueError:
        return None
    return size if 0 < size < math.inf else None
