"""Writes two made-up data sets to try everything on: one laid out as ACDC, one as M&Ms; no scan needed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coopseg.phantom.anatomy import GROUPS, Heart, sample_anatomy
from coopseg.phantom.scan import scan
from coopseg.phantom.scanner import SITES, Site
from coopseg.phantom.ventricles import DENSITY, Motion, solve_motion, volumes
from coopseg.scans.files import check_new, write_atomically
from coopseg.scans.nifti import write_image, write_labels
from coopseg.scans.types import Scan

TRAINING_SITE, OTHER_SITES = SITES[0], SITES[1:]
TO_MNMS = np.array([0, 3, 2, 1], np.uint8)  # ACDC counts from the RV, M&Ms from the LV
ED, MID_SYSTOLE, ES = 0.0, 0.5, 1.0
COLUMNS = (
    "patient", "site", "group", "phase", "lv_ml", "rv_ml", "myocardium_ml", "myocardium_g", "lv_ef", "rv_ef"
)  # fmt: skip


def write_phantom(
    out: str | Path,
    *,
    patients: int = 10,
    cross_patients: int | None = None,
    seed: int = 0,
    size: int | None = None,
) -> dict[str, Path]:
    """Write two data sets below `out`; returns {"acdc": folder, "mnms": folder}.

    The first has `patients` of one site and is laid out and labelled as ACDC; they are called patientP001 and
    so on, as no patient of ACDC is. The second has `cross_patients` (None: as many) of three other sites in
    turn and is laid out and labelled as M&Ms, ED at frame 0 and ES at frame 2 of three. Disease groups come
    in turn. size: columns of the first site's image (None: its own); the fields of view are fixed, so size
    sets the resolution, and that of the other sites in proportion. Each folder's volumes.csv holds the true
    volumes (ml), masses (g) and ejection fractions (0 to 1) of the anatomy, whatever the grid. Equal
    arguments write equal bytes.
    Raises CoopsegError if one of the two folders holds anything already.

    >>> import tempfile
    >>> folders = write_phantom(tempfile.mkdtemp(), patients=1, size=48)
    >>> sorted(path.name for path in (folders["acdc"] / "patientP001").iterdir())[:3]
    ['Info.cfg', 'patientP001_frame01.nii.gz', 'patientP001_frame01_gt.nii.gz']
    >>> (folders["acdc"] / "volumes.csv").read_text().split(",")[:5]
    ['patient', 'site', 'group', 'phase', 'lv_ml']
    """
    folders = {name: Path(out) / name for name in ("acdc", "mnms")}
    for folder in folders.values():  # patients of an earlier call would be among the new ones
        check_new(folder, argument="`out`")
    scale = 1.0 if size is None else size / TRAINING_SITE.matrix[0]
    rows = [_write_acdc(folders["acdc"], index, seed, scale) for index in range(patients)]
    _write_table(folders["acdc"] / "volumes.csv", COLUMNS, [row for pair in rows for row in pair])
    others = range(patients if cross_patients is None else cross_patients)
    rows = [_write_mnms(folders["mnms"], index, seed, scale) for index in others]
    _write_table(folders["mnms"] / "volumes.csv", COLUMNS, [row for pair in rows for row in pair])
    header = ("External code", "VendorName", "Vendor", "Centre", "ED", "ES")
    facts = [(_code(i), _site(i).name, _site(i).vendor, _site(i).centre, 0, 2) for i in others]
    _write_table(folders["mnms"] / "phantom_information.csv", header, facts)
    return folders


def _write_acdc(folder: Path, index: int, seed: int, scale: float) -> list[tuple[object, ...]]:
    """Writes one patient's files; returns its rows of the table of volumes."""
    rng = np.random.default_rng([seed, 0, index])
    patient, group = f"patientP{index + 1:03d}", _group(index)
    anatomy, systole = sample_anatomy(rng, group), int(rng.integers(8, 14))
    motion = solve_motion(anatomy.heart)
    frames, affine = scan(anatomy, motion, TRAINING_SITE, scale=scale, phases=(ED, ES))
    for number, frame in zip((1, systole), frames, strict=True):
        stem = folder / patient / f"{patient}_frame{number:02d}"
        write_image(stem.with_name(stem.name + ".nii.gz"), frame.image, affine=affine, dtype=np.int16)
        write_labels(stem.with_name(stem.name + "_gt.nii.gz"), frame.labels, like=Scan(frame.image, affine))
    facts = f"ED: 1\nES: {systole}\nGroup: {group}\nHeight: 0\nNbFrame: 30\nWeight: 0\n"
    write_atomically(folder / patient / "Info.cfg", facts.encode())
    return _volume_rows(patient, TRAINING_SITE, anatomy.heart, motion)


def _write_mnms(folder: Path, index: int, seed: int, scale: float) -> list[tuple[object, ...]]:
    """Writes one patient's files; returns its rows of the table of volumes."""
    rng = np.random.default_rng([seed, 1, index])
    code, site = _code(index), _site(index)
    anatomy = sample_anatomy(rng, _group(index))
    motion = solve_motion(anatomy.heart)
    frames, affine = scan(anatomy, motion, site, scale=scale, phases=(ED, MID_SYSTOLE, ES))
    labels = np.stack([TO_MNMS[frame.labels] for frame in frames], axis=-1)
    labels[..., 1] = 0  # only ED and ES are drawn by hand
    image = np.stack([frame.image for frame in frames], axis=-1)
    stem = folder / "Training" / "Labeled" / code / f"{code}_sa"
    write_image(stem.with_name(stem.name + ".nii.gz"), image, affine=affine, dtype=np.int16)
    write_image(stem.with_name(stem.name + "_gt.nii.gz"), labels, affine=affine, dtype=np.uint8)
    return _volume_rows(code, site, anatomy.heart, motion)


def _volume_rows(patient: str, site: Site, heart: Heart, motion: Motion) -> list[tuple[object, ...]]:
    found = {"ED": volumes(heart, motion, ED), "ES": volumes(heart, motion, ES)}
    fractions = (1 - found["ES"].lv / found["ED"].lv, 1 - found["ES"].rv / found["ED"].rv)
    return [
        (
            patient, site.name, heart.group, phase,
            *(f"{value:.2f}" for value in (v.lv, v.rv, v.myocardium, DENSITY * v.myocardium)),
            *(f"{value:.4f}" for value in fractions),
        )
        for phase, v in found.items()
    ]  # fmt: skip


def _write_table(path: Path, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_atomically(path, text.getvalue().encode())


def _group(index: int) -> str:
    return tuple(GROUPS)[index % len(GROUPS)]


def _code(index: int) -> str:
    return f"P{index // 100}H{index // 10 % 10}N{index % 10}"


def _site(index: int) -> Site:
    return OTHER_SITES[index % len(OTHER_SITES)]
