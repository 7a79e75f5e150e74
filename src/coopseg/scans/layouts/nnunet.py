"""Lists nnU-Net raw data (dataset.json v1, v2): imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, imagesTs."""

from __future__ import annotations

import re
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.discover import niftis_in, patient_and_phase, stem
from coopseg.scans.layouts.description import (
    Problems,
    check_single_channel,
    described_labels,
    described_name,
    keep,
    read_description,
)
from coopseg.scans.types import Dataset, Labels, ScanRef

LOOKED_FOR = "dataset.json with imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz"
CHANNEL = re.compile(r"_(\d{4})$")


def recognise(path: Path) -> bool:
    """Tells whether a dataset.json lies beside imagesTr or imagesTs with channel numbers in file names."""
    files = niftis_in(path / "imagesTr") + niftis_in(path / "imagesTs")
    return (path / "dataset.json").is_file() and any(CHANNEL.search(stem(file)) for file in files)


def open_layout(path: Path, labels: Labels | None = None, problems: Problems = None) -> Dataset:
    """Lists training cases, then test cases, by name; "CASE_ED" and "CASE_frame01" belong to patient "CASE".

    Raises CoopsegError for several channels, labels that are regions, and files without a channel number.
    """
    entries = read_description(path)
    if entries is None:
        raise CoopsegError(f"{path}: no dataset.json; looked for {LOOKED_FOR}")
    with keep(problems):
        check_single_channel(entries, path)
    items = []
    for part in ("Tr", "Ts"):
        for image in niftis_in(path / f"images{part}"):
            with keep(problems):
                items.append(_item(image, path / f"labels{part}"))
    name = described_name(entries, path, problems)
    return Dataset(name, path, "nnunet", labels or described_labels(entries, path, problems), tuple(items))


def _item(image: Path, folder: Path) -> ScanRef:
    match = CHANNEL.search(stem(image))
    if match is None:
        raise CoopsegError(f"{image}: no channel number; nnU-Net names it {stem(image)}_0000.nii.gz")
    if match[1] != "0000":
        raise CoopsegError(f"{image}: channel {match[1]}; only single-channel scans are supported")
    case = stem(image)[: match.start()]
    label = folder / image.name.replace(f"{case}_0000", case, 1)
    patient, phase = patient_and_phase(case)
    return ScanRef(patient, image, label if label.is_file() else None, phase)
