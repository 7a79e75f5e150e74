"""Turns a scan and its label map into what a page shows: grey slices, outlines, volumes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from coopseg.measures.frames import TRUE, true_voxel
from coopseg.measures.remarks import Remark
from coopseg.scans.colours import as_hex, structure_colours
from coopseg.scans.contours import inner_first, outlines, svg_path
from coopseg.scans.geometry import Orientation, SliceAxis, find_orientation, slices_affine, to_slices
from coopseg.scans.types import Scan

GREY = (1, 99.5)  # percentiles of the scan that are shown as black and white
LARGEST = 320  # pixels of a slice's longer side; larger slices are shown smaller
QUALITY = 90  # of the JPEGs: a cine of 30 phases takes some megabytes
ENDS = (
    "LR",
    "PA",
    "IS",
)  # of the axes of NIfTI: from left to right, posterior to anterior, inferior to superior


@dataclass(frozen=True)
class Volume:
    """Holds a scan with its label map. name: of its file. phase: "ED" or the like, "" for a cine or one scan.

    labels: class indices in the scan's grid. remarks: what to look at in it. called: what the scanner calls
    each slice, in the order of the scan's third axis; () if that is not known.
    """

    name: str
    phase: str
    scan: Scan
    labels: np.ndarray
    remarks: tuple[Remark, ...] = ()
    called: tuple[str, ...] = ()


@dataclass(frozen=True)
class Structure:
    """Describes a structure: its colour as #rrggbb, and its volume in each phase, in the series' unit."""

    name: str
    colour: str
    volumes: tuple[float, ...]


@dataclass(frozen=True)
class Series:
    """Holds what is shown of volumes in one grid; plain JSON can hold it.

    phases: a name for each. milliseconds: of each phase, if the header tells them. slices: how many. called:
    what the scanner calls each, if that is known. size: mm of a slice, across and down. sides: the patient's
    side at the left, right, top and bottom edge. sheets: for each phase all slices in one JPEG in a data
    address, `across` of them side by side, `tile` pixels wide and high each. unit: of volumes, voxels where
    ml cannot be known. outlines: by phase and slice, (number of the structure, SVG path in mm), inner ones
    first.
    """

    name: str
    phases: tuple[str, ...]
    milliseconds: tuple[float, ...]
    slices: int
    called: tuple[str, ...]
    size: tuple[float, float]
    sides: tuple[str, str, str, str]
    across: int
    tile: tuple[int, int]
    sheets: tuple[str, ...]
    structures: tuple[Structure, ...]
    unit: str
    outlines: tuple[tuple[tuple[tuple[int, str], ...], ...], ...]


def make_series(
    volumes: Sequence[Volume], names: Sequence[str], *, spacing: str = TRUE, slice_axis: SliceAxis = "auto"
) -> Series:
    """Makes a series of a cine, of one 3-D volume, or of several in the same grid, a phase each.

    names: of the class indices, background first. spacing, slice_axis: see `count_frame`. Of several
    channels the first is shown.
    """
    first = volumes[0].scan
    found = find_orientation(first.affine, first.data.shape, slice_axis=slice_axis)
    orientation = replace(found, flips=(False, *found.flips[1:]))  # slices are counted as they are stored
    frames = [frame for volume in volumes for frame in _frames(volume)]
    images = np.stack([to_slices(image, orientation) for image, _ in frames])
    labels = np.stack([to_slices(label, orientation) for _, label in frames])
    _, height, width = orientation.spacing(first.spacing)
    _, count, rows, columns = images.shape
    tile, across = _tile(rows, columns, height, width), math.ceil(math.sqrt(count))
    low, high = np.percentile(images, GREY)
    grey = np.clip((images - low) / (high - low or 1) * 255, 0, 255).astype(np.uint8)
    voxel = true_voxel(first.affine, first.data.shape[:3], spacing, slice_axis)
    counts = np.stack([np.bincount(label.ravel(), minlength=len(names)) for label in labels])
    sizes = (counts * (voxel or 1.0)).round(3)
    colours = structure_colours(names)
    return Series(
        name=volumes[0].name,
        phases=_phases(volumes),
        milliseconds=_times(first, len(frames)) if len(volumes) == 1 else (),
        slices=count,
        called=volumes[0].called if orientation.axes[0] == 2 and len(volumes[0].called) == count else (),
        size=(round(columns * width, 3), round(rows * height, 3)),
        sides=_sides(first, orientation),
        across=across,
        tile=tile,
        sheets=tuple(_sheet(phase, tile, across) for phase in grey),
        structures=tuple(
            Structure(name, as_hex(colours[index]), tuple(sizes[:, index].tolist()))
            for index, name in enumerate(names)
            if index
        ),
        unit="ml" if voxel else "voxels",
        outlines=tuple(tuple(_outlines(each, (height, width)) for each in phase) for phase in labels),
    )


def _frames(volume: Volume) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    data, labels = volume.scan.data, volume.labels
    if data.ndim == 3:
        return [(data, labels)]
    return [(data[..., index], labels[..., index]) for index in range(data.shape[3])]


def _phases(volumes: Sequence[Volume]) -> tuple[str, ...]:
    if len(volumes) > 1:
        return tuple(volume.phase or volume.name for volume in volumes)
    data = volumes[0].scan.data
    if data.ndim == 4:
        return tuple(f"phase {number}" for number in range(1, data.shape[3] + 1))
    return (volumes[0].phase,)


def _times(scan: Scan, count: int) -> tuple[float, ...]:
    """Returns the time of each phase in ms from the first; nothing where the header does not tell it."""
    if scan.header is None or count < 2:
        return ()
    units = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}
    step = float(scan.header["pixdim"][4]) * units.get(scan.header.get_xyzt_units()[1], 0.0)
    return tuple(round(step * number, 3) for number in range(count)) if 0 < step < math.inf else ()


def _sides(scan: Scan, orientation: Orientation) -> tuple[str, str, str, str]:
    """Returns which side of the patient is at the left, right, top and bottom of a slice."""
    directions = slices_affine(scan.affine, scan.data.shape, orientation)[:3, :3]
    found: list[str] = []
    for direction in (directions[:, 2], directions[:, 1]):  # to the right, and down
        axis = int(np.abs(direction).argmax())
        found += ENDS[axis] if direction[axis] > 0 else ENDS[axis][::-1]
    return found[0], found[1], found[2], found[3]


def _tile(rows: int, columns: int, height: float, width: float) -> tuple[int, int]:
    """Returns the pixels across and down of a slice on a sheet; they are square, however the scan's are."""
    pixel = min(height, width)
    sides = columns * width / pixel, rows * height / pixel
    scale = min(1.0, LARGEST / max(sides))
    return max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))


def _sheet(slices: np.ndarray, tile: tuple[int, int], across: int) -> str:
    sheet = Image.new("L", (across * tile[0], math.ceil(len(slices) / across) * tile[1]))
    for number, values in enumerate(slices):
        image = Image.fromarray(np.ascontiguousarray(values)).resize(tile, Image.Resampling.BILINEAR)
        sheet.paste(image, (number % across * tile[0], number // across * tile[1]))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _outlines(labels: np.ndarray, spacing: tuple[float, float]) -> tuple[tuple[int, str], ...]:
    return tuple((index - 1, svg_path(outlines(labels == index), spacing)) for index in inner_first(labels))
