"""Stores one slice of each data set, with its true and predicted classes, for a report to show.

The slices are chosen by the data alone, so that models evaluated on the same data can be laid side by side.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.evaluation.predictions import PredictedCase, Predictions
from coopseg.scans.files import write_atomically
from coopseg.scans.geometry import find_orientation, to_slices
from coopseg.scans.types import Dataset, ScanRef

SLICES = "slices.npz"
TRUTH, IMAGE = "truth", "image"
GREY = (2, 98)  # percentiles of the volume stored as 0 and 255
VIEW = 1.7  # side of the stored square over the longer side of the true foreground


def write_slices(predictions: Predictions, datasets: Sequence[Dataset], *, out: Path) -> list[dict[str, Any]]:
    """Write OUT/slices.npz and return its index, one entry per data set in their order.

    The npz holds, for data set number i from 0, "i/image" (H, W) uint8 grey values, "i/truth" and "i/HEAD"
    (H, W) uint8 class indices: rows and columns in the common in-plane orientation (see `find_orientation`),
    cropped around the true foreground, pixels as stored. An entry names dataset, case, patient, phase and
    copy, the slice (from 1), the number of slices, and the spacing of rows and columns in mm.
    The volume is of `shared_patient` if the data set has this patient, else of its first patient by name; it
    is the ED one if there is one, and the lowest copy. The slice is the one with the most true foreground;
    corrupted copies of the first volume shown give the same slice as it does. predictions: as for `evaluate`.
    """
    patient = shared_patient(datasets)
    arrays: dict[str, np.ndarray] = {}
    index: list[dict[str, Any]] = []
    for number, dataset in enumerate(datasets):
        ref = choose_volume(dataset, patient)
        found = predictions(dataset, ref)
        entry, stored = _take(found, ref, shown=index[0] if index else None)
        arrays |= {f"{number}/{name}": values for name, values in stored.items()}
        index.append({"dataset": dataset.name} | entry)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its keyword allow_pickle is no array
    write_atomically(out / SLICES, buffer.getvalue())
    return index


def shared_patient(datasets: Sequence[Dataset]) -> str:
    """Returns that patient of the first data set whom most data sets have, e.g. one with corrupted copies."""
    held = [set(dataset.patients) for dataset in datasets]
    return min(held[0], key=lambda name: (-sum(name in patients for patients in held), name))


def choose_volume(dataset: Dataset, patient: str) -> ScanRef:
    """Returns the volume to show; see `write_slices`."""
    wanted = patient if patient in dataset.patients else min(dataset.patients)
    own = [ref for ref in dataset.items if ref.patient == wanted]
    return min(own, key=lambda ref: (ref.phase != "ED", ref.copy))


def largest_slice(target: np.ndarray) -> int:
    """Returns the index of the slice of (slices, H, W) with most foreground; the middle if there is none."""
    areas = np.count_nonzero(target, axis=(1, 2))
    return int(areas.argmax()) if areas.any() else len(target) // 2


def square_around(mask: np.ndarray, spacing: tuple[float, float]) -> tuple[slice, slice]:
    """Returns rows and columns of a square, in mm, around the True pixels of (H, W); all if none is True."""
    if not mask.any():
        return slice(None), slice(None)
    found = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    sides = [(ends[-1] - ends[0] + 1) * step for ends, step in zip(found, spacing, strict=True)]
    half = VIEW * max(sides) / 2
    centres = [(ends[0] + ends[-1]) / 2 for ends in found]
    rows, columns = (
        slice(max(round(centre - half / step), 0), round(centre + half / step) + 1)
        for centre, step in zip(centres, spacing, strict=True)
    )
    return rows, columns


def _take(
    found: PredictedCase, ref: ScanRef, *, shown: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    orientation = find_orientation(found.scan.affine)
    image, target = to_slices(found.scan.data, orientation), to_slices(found.target, orientation)
    _, height, width = orientation.spacing(found.scan.spacing)
    entry: dict[str, Any] = {"case": ref.id, "patient": ref.patient, "phase": ref.phase, "copy": ref.copy}
    entry["slices"] = len(target)
    volume = ("patient", "phase", "slices")
    repeats = shown is not None and ref.copy > 0 and all(entry[key] == shown[key] for key in volume)
    number = shown["slice"] - 1 if shown and repeats else largest_slice(target)
    entry |= {"slice": number + 1, "spacing": [height, width]}
    window = (number, *square_around(target[number] > 0, (height, width)))
    stored = {IMAGE: _grey(image, window), TRUTH: target[window].astype(np.uint8)}
    for head, prediction in found.heads.items():
        stored[head] = to_slices(prediction, orientation)[window].astype(np.uint8)
    return entry, stored


def _grey(volume: np.ndarray, window: tuple[int, slice, slice]) -> np.ndarray:
    low, high = np.percentile(volume, GREY)
    scaled = (volume[window] - low) / max(high - low, np.finfo(np.float32).tiny)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
