"""Lists ACDC's download (Bernard et al. 2018): patientNNN/{Info.cfg, patientNNN_frameKK.nii.gz, ..._gt}."""

from __future__ import annotations

from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.layouts.description import Problems, keep
from coopseg.scans.types import Dataset, Labels, ScanRef
from coopseg.text import read_text, whole_number

LOOKED_FOR = "patient*/Info.cfg (also below training/ and testing/)"
LABELS = Labels(("background", "RV", "MYO", "LV"), (0, 1, 2, 3))
PHASES = ("ED", "ES")
PARTS = ("", "training/", "testing/", "database/training/", "database/testing/")


def recognise(path: Path) -> bool:
    """Tells whether patient folders with an Info.cfg lie in `path`."""
    return bool(_configs(path))


def open_layout(path: Path, labels: Labels | None = None, problems: Problems = None) -> Dataset:
    """Lists ED and ES of every patient, by patient then phase. A missing label file leaves the label None.

    Raises CoopsegError for an Info.cfg without frame numbers and for an image that is not there.
    """
    items = [item for config in _configs(path) for item in _patient(config, problems)]
    return Dataset("ACDC", path, "acdc", labels or LABELS, tuple(items))


def _configs(path: Path) -> list[Path]:
    found = {config for part in PARTS for config in path.glob(f"{part}patient*/Info.cfg")}
    return sorted(found, key=lambda config: (config.parent.name, config))


def _patient(config: Path, problems: Problems) -> list[ScanRef]:
    entries: dict[str, str] = {}
    items: list[ScanRef] = []
    with keep(problems):
        pairs = (line.partition(":") for line in read_text(config).splitlines())
        entries = {key.strip(): value for key, _, value in pairs}
    for phase in PHASES:
        with keep(problems):
            items.append(_volume(config, phase, entries.get(phase, "")))
    return items


def _volume(config: Path, phase: str, number: str) -> ScanRef:
    """Makes one volume. number: the frame's, counted from 1, as text from the config."""
    frame = whole_number(number)
    if frame is None:
        raise CoopsegError(
            f'{config}: no line "{phase}: <frame number>"; copy the file from the download again'
        )
    patient = config.parent.name
    image = config.parent / f"{patient}_frame{frame:02d}.nii.gz"
    if not image.is_file():
        raise CoopsegError(
            f"{image}: not found, but {config} names frame {frame} as {phase}; copy it again",
            rule="missing-file",
        )
    label = image.with_name(f"{patient}_frame{frame:02d}_gt.nii.gz")
    return ScanRef(patient, image, label if label.is_file() else None, phase)
