"""Two made-up data sets to try everything on: one laid out as ACDC, one as M&Ms; no scan needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coopseg.scans.files import write_atomically
from coopseg.scans.nifti import write_image, write_labels
from coopseg.scans.phantom_heart import ACDC, MNMS, Site, draw, sample_anatomy
from coopseg.scans.types import Scan

TO_MNMS = np.array([0, 3, 2, 1], np.uint8)  # ACDC counts from the RV, M&Ms from the LV
MID_SYSTOLE, END_SYSTOLE = 0.5, 1.0  # of the way from end diastole


def write_phantom(
    out: str | Path, *, patients: int = 6, seed: int = 0, size: int = 192, slices: int = 8
) -> dict[str, Path]:
    """Write two data sets of `patients` each below `out`; {"acdc": folder, "mnms": folder}.

    The first is laid out and labelled as ACDC, the second, from two other scanners, as M&Ms. size:
    columns of an image; the field of view is fixed, so that it sets the resolution. Equal arguments
    write equal bytes.
    """
    folders = {name: Path(out) / name for name in ("acdc", "mnms")}
    for index in range(patients):
        _write_acdc(folders["acdc"], index, np.random.default_rng([seed, 0, index]), size, slices)
        _write_mnms(folders["mnms"], index, np.random.default_rng([seed, 1, index]), size, slices)
    rows = [f"{_code(i)},{_site(i).name},{'BC'[i % 2]},{_site(i).centre},0,2" for i in range(patients)]
    table = "\n".join(["External code,VendorName,Vendor,Centre,ED,ES", *rows, ""])
    write_atomically(folders["mnms"] / "phantom_information.csv", table.encode())
    return folders


def _write_acdc(folder: Path, index: int, rng: np.random.Generator, size: int, slices: int) -> None:
    patient, anatomy = f"patient{index + 1:03d}", sample_anatomy(rng, slices)
    systole = int(rng.integers(8, 14))
    for frame, phase in ((1, 0.0), (systole, END_SYSTOLE)):
        image, labels, affine = draw(anatomy, ACDC, size=size, phase=phase)
        stem = folder / patient / f"{patient}_frame{frame:02d}"
        write_image(stem.with_name(stem.name + ".nii.gz"), image, affine=affine, dtype=np.int16)
        write_labels(stem.with_name(stem.name + "_gt.nii.gz"), labels, like=Scan(image, affine))
    facts = f"ED: 1\nES: {systole}\nGroup: phantom\nHeight: 0\nNbFrame: 30\nWeight: 0\n"
    write_atomically(folder / patient / "Info.cfg", facts.encode())


def _write_mnms(folder: Path, index: int, rng: np.random.Generator, size: int, slices: int) -> None:
    code, anatomy = _code(index), sample_anatomy(rng, slices)
    frames = [
        draw(anatomy, _site(index), size=size, phase=phase) for phase in (0.0, MID_SYSTOLE, END_SYSTOLE)
    ]
    labels = [TO_MNMS[labels] for _, labels, _ in frames]
    labels[1] = np.zeros_like(labels[1])  # only ED and ES are drawn by hand
    stem = folder / "Training" / "Labeled" / code / f"{code}_sa"
    affine = frames[0][2]
    image = np.stack([image for image, _, _ in frames], axis=-1)
    write_image(stem.with_name(stem.name + ".nii.gz"), image, affine=affine, dtype=np.int16)
    write_image(
        stem.with_name(stem.name + "_gt.nii.gz"), np.stack(labels, axis=-1), affine=affine, dtype=np.uint8
    )


def _code(index: int) -> str:
    return f"P{index // 100}H{index // 10 % 10}N{index % 10}"


def _site(index: int) -> Site:
    return MNMS[index % len(MNMS)]
