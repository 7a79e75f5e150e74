"""ACDC as downloaded (Bernard et al. 2018): patientNNN/{Info.cfg, patientNNN_frameKK.nii.gz, ..._gt}."""

from __future__ import annotations

from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.types import Dataset, Labels, ScanRef

LOOKED_FOR = "patient*/Info.cfg (also below training/ and testing/)"
LABELS = Labels(("background", "RV", "MYO", "LV"), (0, 1, 2, 3))
PHASES = ("ED", "ES")
PARTS = ("", "training/", "testing/", "database/training/", "database/testing/")


def recognise(path: Path) -> bool:
    """Whether patient folders with an Info.cfg lie in `path`."""
    return bool(_configs(path))


def open_layout(path: Path, labels: Labels | None = None) -> Dataset:
    """ED and ES of every patient, by patient then phase. A missing label file leaves the label None.

    Raises CoopsegError for an Info.cfg without frame numbers and for an image that is not there.
    """
    items = [item for config in _configs(path) for item in _patient(config)]
    return Dataset("ACDC", path, "acdc", labels or LABELS, tuple(items))


def _configs(path: Path) -> list[Path]:
    found = {config for part in PARTS for config in path.glob(f"{part}patient*/Info.cfg")}
    return sorted(found, key=lambda config: (config.parent.name, config))


def _patient(config: Path) -> list[ScanRef]:
    patient = config.parent.name
    items = []
    for phase, number in zip(PHASES, _frames(config), strict=True):
        image = config.parent / f"{patient}_frame{number:02d}.nii.gz"
        if not image.is_file():
            raise CoopsegError(
                f"{image}: not found, but {config} names frame {number} as {phase}; copy it again"
            )
        label = image.with_name(f"{patient}_frame{number:02d}_gt.nii.gz")
        items.append(ScanRef(patient, image, label if label.is_file() else None, phase))
    return items


def _frames(config: Path) -> list[int]:
    """Frame numbers, counted from 1, of ED and ES."""
    lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    for phase in PHASES:
        if not entries.get(phase, "").isdigit():
            raise CoopsegError(
                f'{config}: no line "{phase}: <frame number>"; copy the file from the download again'
            )
    return [int(entries[phase]) for phase in PHASES]
