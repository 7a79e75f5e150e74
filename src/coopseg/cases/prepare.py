"""Turns a scan into a case and records how, and turns class probabilities back into the scan's grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import numpy as np

from coopseg.cases.lost import NOTHING, Count, Lost, count_clipped, count_cut
from coopseg.cases.steps import (
    centre_start,
    crop_centre,
    edge_warning,
    interpolate_linear,
    minmax_slices,
    percentile_limits,
    resampled_length,
    scale_to_limits,
    scale_to_percentiles,
    source_coordinates,
    take_nearest,
    undo_crop,
)
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.scans.geometry import (
    Orientation,
    describe_spacing,
    find_orientation,
    from_slices,
    judge_spacing,
    to_slices,
)
from coopseg.scans.types import Scan, ScanRef


@dataclass(frozen=True)
class Record:
    """Holds every step from a scan to a case but the scaling of single slices; plain JSON can hold it.

    shape: the stored grid (X, Y, Z). orientation: how it became (slices, rows, columns).
    stored_spacing: mm of (slices, rows, columns) before resampling.
    clip: the intensities of each channel that became 0 and 1; None if the scan came normalised.
    steps: stored pixels per resampled pixel, rows and columns; exactly 1 if nothing was interpolated.
    resampled: (rows, columns) after resampling. size: (H, W) of the crop or padding around the centre.
    """

    shape: tuple[int, int, int]
    orientation: Orientation
    stored_spacing: tuple[float, float, float]
    clip: tuple[tuple[float, float], ...] | None
    steps: tuple[float, float]
    resampled: tuple[int, int]
    size: tuple[int, int]

    @property
    def slices(self) -> int:
        """Returns the number of slices, the same in scan and case."""
        return self.shape[self.orientation.axes[0]]

    @property
    def plane(self) -> tuple[int, int]:
        """Returns (rows, columns) of the scan before resampling."""
        return self.shape[self.orientation.axes[1]], self.shape[self.orientation.axes[2]]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Returns the spacing of (slices, rows, columns) in the case, mm."""
        slices, rows, columns = self.stored_spacing
        return slices, rows * self.steps[0], columns * self.steps[1]


MOST_PIXELS = 2**25  # of a case, or four times the scan's voxels if that is more
MOST_SIDE = 2**16  # pixels, twice as many as a NIfTI-1 file can have
GREATEST = 1e30  # range of the intensities, so that float32 can hold what is computed from them
MOST_OF_LABELS = 10  # distinct values; label maps of one organ have fewer, images far more
AIR = -500  # Hounsfield units; air is at -1000, lung at -850, all else in a body above
COLDEST = -1100  # of air, with noise; what is lower is padding, or no CT
AIRY = 0.01  # share of a CT scan that is air; resampling gives MR a few negative values too
SAME_SPACING = 1e-4  # mm; spacings closer than this differ only by the rounding of a header


@dataclass(frozen=True)
class Case:
    """Holds what the networks see of a scan, and what is known about it.

    image: (slices, channels, H, W) float32 in [0, 1]. label: (slices, H, W) uint8 class indices, or None.
    warnings: one line each, such as a structure that the crop cuts. ref: where the scan came from. lost: what
    the crop of the settings, not a canvas, and their intensity rule lose.
    """

    image: np.ndarray
    label: np.ndarray | None
    record: Record
    warnings: tuple[str, ...] = ()
    ref: ScanRef | None = None
    lost: Lost = NOTHING


def prepare(
    scan: Scan,
    settings: CaseSettings,
    *,
    label: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    normalised: bool = False,
    canvas: tuple[int, int] | None = None,
) -> Case:
    """Preprocess one 3-D scan as in Chen et al. 2021, section 3, and record every step.

    In this order: put slices first; clip to percentiles of the volume, or to a window of intensities, and
    scale to [0, 1] (unless the scan is `normalised` already); resample in-plane, linearly for the image,
    nearest for labels; pad with zeros or crop around the centre; scale every slice to [0, 1]. Intensities are
    scaled in each channel by itself.
    label: (X, Y, Z) class indices in the scan's grid. names: of the classes, for warnings.
    canvas: (rows, columns) to keep in place of the crop, for augmentation. Slices are then not scaled one by
    one, since that must follow the crop, and warnings are those of the crop.
    Raises CoopsegError for a scan that is not 3-D or not finite, for a label of another shape, for a
    `normalised` scan with values outside [0, 1], and for a spacing that no scanner has.
    """
    check_scan(scan, label, normalised)
    warnings = look_at(scan, settings, normalised=normalised)
    size = canvas or settings.size
    plan = make_plan(scan, settings, size=size)
    channels, limits, clipped = [], [], Count()
    for channel in scan.channels:
        image = to_slices(channel.data, plan.orientation)
        if not normalised:
            stored = image
            if settings.window:
                image, clip = scale_to_limits(image, settings.window), settings.window
            else:
                image, clip = scale_to_percentiles(image, settings.percentiles)
            limits.append(clip)
            clipped += count_clipped(stored, clip)
        image = crop_centre(interpolate_linear(image, *plan.grid), size)
        channels.append(minmax_slices(image) if settings.slice_minmax and not canvas else image)
    shape = scan.data.shape[0], scan.data.shape[1], scan.data.shape[2]
    clips = None if normalised else tuple(limits)
    record = Record(shape, plan.orientation, plan.spacing, clips, plan.steps, plan.plane, size)
    warnings += blank_warning(scan, clips, settings)
    cut: dict[str, Count] = {}
    if label is not None:
        whole = plan.resample(label)
        names = names or _numbers(whole)
        label = crop_centre(whole, size)
        warnings += edge_warning(crop_centre(whole, settings.size), names, whole=whole)
        cut = count_cut(whole, settings.size, names)
    image = np.stack(channels, axis=1) if scan.more else channels[0][:, None]
    return Case(image, label, record, warnings, lost=Lost(cut, clipped))


@dataclass(frozen=True)
class Plan:
    """Says how a scan becomes slices in a common spacing, before the crop.

    spacing: stored mm of (slices, rows, columns). steps: stored pixels per resampled pixel. plane: (rows,
    columns) after resampling. grid: their centres in stored pixels.
    """

    orientation: Orientation
    spacing: tuple[float, float, float]
    steps: tuple[float, float]
    plane: tuple[int, int]
    grid: tuple[np.ndarray, np.ndarray]

    def resample(self, label: np.ndarray) -> np.ndarray:
        """Turns (X, Y, Z) class indices into (slices, rows, columns) uint8 of the common spacing."""
        return take_nearest(to_slices(label.astype(np.uint8), self.orientation), *self.grid)


def make_plan(scan: Scan, settings: CaseSettings, *, size: tuple[int, int]) -> Plan:
    """Finds how a 3-D scan becomes slices in the spacing of the settings, to be cropped to `size`.

    Raises CoopsegError for voxels so large that the slices would fill the memory.
    """
    orientation = find_orientation(scan.affine, scan.data.shape, slice_axis=settings.slice_axis)
    spacing = orientation.spacing(scan.spacing)
    steps = _step(spacing[1], settings.spacing), _step(spacing[2], settings.spacing)
    _check_extent(scan, orientation, steps, size)
    rows, columns = (scan.data.shape[axis] for axis in orientation.axes[1:])
    plane = resampled_length(rows, steps[0]), resampled_length(columns, steps[1])
    grid = source_coordinates(rows, plane[0], steps[0]), source_coordinates(columns, plane[1], steps[1])
    return Plan(orientation, spacing, steps, plane, grid)


def measure_lost(
    scan: Scan, settings: CaseSettings, *, label: np.ndarray, names: Sequence[str], normalised: bool
) -> Lost:
    """Counts what `prepare` would lose of a scan, without preparing it; for its arguments see there."""
    plan = make_plan(scan, settings, size=settings.size)
    cut = count_cut(plan.resample(label), settings.size, names)
    if normalised:
        return Lost(cut)
    pairs = zip(scan.channels, intensity_limits(scan, settings), strict=True)
    return Lost(cut, sum((count_clipped(channel.data, limits) for channel, limits in pairs), Count()))


def intensity_limits(scan: Scan, settings: CaseSettings) -> tuple[tuple[float, float], ...]:
    """Returns the intensities of each channel that become 0 and 1."""
    return tuple(
        settings.window or percentile_limits(channel.data, settings.percentiles) for channel in scan.channels
    )


def look_at(scan: Scan, settings: CaseSettings, *, normalised: bool = False) -> tuple[str, ...]:
    """Returns a line for all that a user should look at before trusting what becomes of a 3-D or 4-D scan.

    Lines on intensities say which channel they are about, counted from 0, if there are several. All lines
    are about CT where the settings are for MR or the other way round, a header that contradicts itself, an
    unusual spacing, slices along another stored axis than in training, and voxels like those of a label map.
    Raises CoopsegError for a spacing that no scanner has.
    """
    orientation = find_orientation(scan.affine, scan.data.shape, slice_axis=settings.slice_axis)
    axis, spacing = orientation.axes[0], orientation.spacing(scan.spacing)
    lines = [] if normalised else by_channel(scan, partial(judge_intensities, settings=settings))
    lines += scan.notes
    rule = judge_spacing(spacing, scan.data.shape[axis])
    if rule == "spacing-extreme":
        raise CoopsegError(
            f"{scan.path}: {describe_spacing(spacing)}; correct its voxel size or its unit", rule=rule
        )
    if rule and not normalised:  # a normalised scan is a copy in a spacing that someone chose
        lines.append(f"{describe_spacing(spacing)}; check it against the scanner's")
    if settings.trained_axis not in (None, axis):
        lines.append(
            f"slices are cut along axis {axis}, those of the training lay along axis "
            f"{settings.trained_axis}; check that the plane is the same"
        )
    if not normalised:
        lines += by_channel(scan, _judge_values)
    return tuple(lines)


def by_channel(scan: Scan, judge: Callable[[np.ndarray], Sequence[str]]) -> list[str]:
    """Returns what `judge` says of each channel's voxels, with the channel's number if there are several."""
    marks = [f"channel {number}: " if scan.more else "" for number in range(1 + len(scan.more))]
    return [
        mark + line
        for mark, channel in zip(marks, scan.channels, strict=True)
        for line in judge(channel.data)
    ]


def _judge_values(data: np.ndarray) -> tuple[str, ...]:
    values = few_whole_numbers(data)
    return (f"holds {values} whole numbers only, as a label map does; give the image",) if values else ()


def judge_intensities(data: np.ndarray, settings: CaseSettings) -> tuple[str, ...]:
    """Returns a line if a scan looks like CT where settings are for MR, or the other way round, and advice.

    Settings that know the axis of their training are those of a model.
    """
    trained = settings.trained_axis is not None
    if settings.window is None and in_hounsfield_units(data):
        rule = "the model scales intensities" if trained else "intensities are scaled"
        do = "use a model trained on CT with --adapt" if trained else "give --adapt, or set cases.window"
        return (f"looks like CT in Hounsfield units, but {rule} by percentiles, as for MR; {do}",)
    if settings.window and settings.window[0] < 0 <= data.min():
        window = "the window {:g} to {:g} is for Hounsfield units of CT".format(*settings.window)
        do = "use a model trained on MR" if trained else "leave cases.window out"
        return (f"has no negative value, but {window}; {do}",)
    return ()


def in_hounsfield_units(data: np.ndarray) -> bool:
    """Tells whether a scan looks like CT: whole numbers, a share of AIRY or more of them those of air."""
    air = np.count_nonzero((data > COLDEST) & (data < AIR))
    return bool(air >= AIRY * data.size) and np.array_equal(data, np.rint(data))


def few_whole_numbers(data: np.ndarray) -> int:
    """Counts the distinct values if they are 2 to MOST_OF_LABELS whole numbers; returns 0 otherwise."""
    for part in (data.ravel(order="K")[:: max(1, data.size // 1000)], data):  # a scan shows in the first
        values = np.unique(part)
        if len(values) > MOST_OF_LABELS or not np.array_equal(values, np.rint(values)):
            return 0
    return len(values) if len(values) > 1 else 0


def restore(probabilities: np.ndarray, record: Record) -> np.ndarray:
    """Turns class probabilities of a case into class indices in the scan's own grid.

    probabilities: (C, slices, H, W) float32. Outside the crop the background (class 0) has probability 1.
    Probabilities are interpolated linearly to the stored in-plane grid, then the greatest wins.
    Returns (X, Y, Z) uint8. Raises ValueError for a shape that is not the record's.
    """
    if probabilities.ndim != 4 or probabilities.shape[1:] != (record.slices, *record.size):
        raise ValueError(
            f"probabilities must be (classes, {record.slices}, {record.size[0]}, {record.size[1]}), "
            f"found {probabilities.shape}"
        )
    if record.steps == (1, 1):
        indices = undo_crop(most_probable(probabilities), record.plane)
    else:
        indices = _interpolate_back(probabilities, record)
    return np.ascontiguousarray(from_slices(indices, record.orientation))


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """Returns the uint8 index of the greatest of (classes, ...), the first of equal ones, as argmax would.

    It goes class by class, for a few classes several times as fast as numpy's search along the first axis.
    """
    indices = np.zeros(probabilities.shape[1:], np.uint8)
    greatest = probabilities[0].copy()
    for index in range(1, len(probabilities)):
        np.copyto(indices, index, where=probabilities[index] > greatest)
        np.maximum(greatest, probabilities[index], out=greatest)
    return indices


def _interpolate_back(probabilities: np.ndarray, record: Record) -> np.ndarray:
    """Interpolates to the stored plane and returns class indices, (slices, rows, columns).

    A rim of background, one pixel wide, stands for all that lies outside the crop. It goes slice by slice,
    since a slice of every class fits the processor's cache and a volume does not.
    """
    rows, columns = (
        source_coordinates(length, stored, 1 / step) - centre_start(length, side) + 1
        for length, stored, step, side in zip(
            record.resampled, record.plane, record.steps, record.size, strict=True
        )
    )
    indices = np.empty((record.slices, *record.plane), np.uint8)
    for index in range(record.slices):
        padded = np.pad(probabilities[:, index], ((0, 0), (1, 1), (1, 1)))
        padded[0, [0, -1]] = padded[0, :, [0, -1]] = 1
        indices[index] = most_probable(interpolate_linear(padded, rows, columns))
    return indices


def _step(stored: float, wanted: float | None) -> float:
    return 1.0 if wanted is None or abs(stored - wanted) < SAME_SPACING else wanted / stored


def blank_warning(
    scan: Scan, clips: Sequence[tuple[float, float]] | None, settings: CaseSettings
) -> tuple[str, ...]:
    """Returns a line for each channel of which nothing is left once its intensities are scaled to [0, 1].

    clips: the intensities of each that become 0 and 1; None for a scan that is normalised already.
    """
    limits = iter(clips or repeat(None))
    return tuple(by_channel(scan, lambda data: _blank(data, next(limits), settings)))


def _blank(data: np.ndarray, clip: tuple[float, float] | None, settings: CaseSettings) -> tuple[str, ...]:
    if clip and not settings.window:
        if clip[1] > clip[0]:
            return ()
        percentiles = "percentiles {:g} and {:g}".format(*settings.percentiles)
        return (f"image: {percentiles} of the volume are both {clip[0]:g}, the case is blank",)
    least, greatest = float(data.min()), float(data.max())
    if least == greatest:
        return (f"image: every voxel is {least:g}, the case is blank",)
    if clip and (greatest <= clip[0] or least >= clip[1]):
        window = "{:g} to {:g}".format(*clip)
        return (f"image: every voxel lies outside cases.window, {window}; the case is blank",)
    return ()


def _numbers(labels: np.ndarray) -> list[str]:
    return [f"class {index}" for index in range(int(labels.max()) + 1)]


def check_scan(scan: Scan, label: np.ndarray | None, normalised: bool) -> None:
    """Raises CoopsegError for a scan that `prepare` refuses for its shape or its values."""
    if scan.data.ndim != 3:
        raise CoopsegError(f"{scan.path}: shape {scan.data.shape} is not 3-D; choose one frame")
    if label is not None and label.shape != scan.data.shape:
        raise CoopsegError(
            f"{scan.path}: shape {scan.data.shape}, its label {label.shape}; give the label of this scan"
        )
    for channel in scan.channels:
        _check_values(channel, normalised)


def _check_values(scan: Scan, normalised: bool) -> None:
    low, high = float(scan.data.min()), float(scan.data.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise CoopsegError(f"{scan.path}: holds NaN or infinity; replace them")
    if high - low > GREATEST:
        raise CoopsegError(
            f"{scan.path}: holds {low:g} to {high:g}, which are no intensities; export the scan again"
        )
    if normalised and (low < 0 or high > 1):
        raise CoopsegError(
            f"{scan.path}: said to be normalised, but holds {low:g} to {high:g}; scale it to [0, 1]"
        )


def _check_extent(
    scan: Scan, orientation: Orientation, steps: tuple[float, float], size: tuple[int, int]
) -> None:
    """Refuses voxels that are too large: one of a kilometre would become a million pixels.

    It bounds every array that `prepare` makes. Columns are resampled first, so that a scan whose pixels are
    long and narrow can be larger half-way than before and after.
    """
    slices, *plane = (scan.data.shape[axis] for axis in orientation.axes)
    made = [length / max(step, 1e-9) for length, step in zip(plane, steps, strict=True)]
    rows, columns = max((made, [plane[0], made[1]], list(size)), key=math.prod)
    if max(rows, columns) > MOST_SIDE or slices * rows * columns > max(MOST_PIXELS, 4 * scan.data.size):
        raise CoopsegError(
            f"{scan.path}: its voxels of {' x '.join(f'{side:g}' for side in scan.spacing)} mm would become "
            f"{slices} slices of {rows:.0f} x {columns:.0f} pixels; correct its voxel size or set "
            "cases.spacing and cases.size"
        )
