"""Stacks frames to scans by their places and times; what does not fit is refused. Reads no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import median, median_low

import numpy as np

from coopseg.dicom.names import name_scans
from coopseg.dicom.sort import normal, sort_objects, split_locations
from coopseg.dicom.times import after_r_wave, sort_times, time_step
from coopseg.dicom.types import DicomObject, Frame, Instance, Origin, Source, Stack, Stacked
from coopseg.errors import CoopsegError
from coopseg.scans.header import MAX_VOXELS

EVEN = 0.02  # share of the distance of slices by which it may vary
EVEN_MM = 0.05  # the same in mm, if that is more: positions are rounded
ROUNDING = 1e-3  # mm between pixels by which it may vary
GAP = 1.5  # a distance this many times the usual one means that a slice is missing
TO_RAS = np.diag([-1.0, -1.0, 1.0])  # from DICOM's LPS


def stack_objects(objects: Iterable[DicomObject]) -> Stacked:
    """Makes scans of objects, whatever the order in which these were found.

    Whatever cannot be a scan is refused with an error of its own, and keeps no other from being one.
    """
    groups = sort_objects(objects)
    stacks, refused = list[Stack](), list(groups.refused)
    for frames in groups.scans:
        try:
            stacks.append(stack_frames(frames))
        except CoopsegError as error:
            refused.append(frames[0].instance.refuse(error))
    names = name_scans([stack.origin for stack in stacks])
    named = [replace(stack, name=name) for name, stack in zip(names, stacks, strict=True)]
    return Stacked(
        tuple(sorted(named, key=lambda stack: stack.name)),
        tuple(sorted(refused, key=str)),
        tuple(groups.described()),
    )


def stack_frames(frames: Sequence[Frame]) -> Stack:
    """Makes a scan of the frames of one orientation.

    Raises CoopsegError for images of different sizes, for two of the same place and time, for a gap or uneven
    distances between slices, and for slices with different numbers of times.
    """
    _check_alike(frames, lambda f: f.instance.shape[::-1], "pixels", "of one size")
    _check_alike(frames, lambda f: f.pixel, "mm", "with one pixel spacing")
    slices = split_locations(frames)
    _check_distances([slice_[0] for slice_ in slices])
    times, sorted_by = sort_times(slices)
    _check_line(times)
    first = times[0][0]
    rows, columns = first.instance.shape
    if rows * columns * len(frames) > MAX_VOXELS:
        raise CoopsegError(
            f"{first.shown}: a scan of {columns} x {rows} x {len(times)} x {len(times[0])} voxels, more than "
            f"{MAX_VOXELS}; export it in parts"
        )
    between, notes = time_step(times, sorted_by)
    origin = _origin(times, after_r_wave(times, sorted_by))
    return Stack("", times, _affine(times), between, sorted_by, notes, origin)


def _check_alike(
    frames: Sequence[Frame], key: Callable[[Frame], tuple[float, ...]], unit: str, wanted: str
) -> None:
    first = frames[0]
    for other in frames:
        if not np.allclose(key(other), key(first), rtol=0, atol=ROUNDING):
            found, usual = (" x ".join(f"{side:g}" for side in key(frame)) for frame in (other, first))
            raise CoopsegError(
                f"{other.shown}: {found} {unit} in {other.instance.series_name}, but {first.shown} of the "
                f"same stack has {usual}; export a stack {wanted}"
            )


def _check_distances(slices: Sequence[Frame]) -> None:
    """Raise CoopsegError unless slices, of one orientation and in order, lie evenly."""
    heights = np.array([frame.position for frame in slices]) @ normal(slices[0])
    distances = np.diff(heights)
    usual = median_low(distances.tolist())
    for index, distance in enumerate(distances):
        if abs(distance - usual) <= max(EVEN * usual, EVEN_MM):
            continue
        before, after = slices[index : index + 2]
        where = f"{after.shown}: lies {distance:.2f} mm from {before.shown} in {after.instance.series_name}"
        if distance > GAP * usual:
            missing = max(round(distance / usual) - 1, 1)
            raise CoopsegError(
                f"{where}, where slices are {usual:.2f} mm apart, so that {missing} may be missing; "
                "export all slices"
            )
        raise CoopsegError(f"{where}, where slices are {usual:.2f} mm apart; export an even stack")


def _check_line(times: Sequence[Sequence[Frame]]) -> None:
    """Raise CoopsegError unless the first pixels of all images lie evenly on one line."""
    positions = np.array([[frame.position for frame in frames] for frames in times])
    ends = positions[0, 0], positions[-1, 0]
    line = np.linspace(*ends, len(times))
    apart = np.linalg.norm(positions - line[:, None], axis=2)
    usual = float(np.linalg.norm(ends[1] - ends[0])) / (len(times) - 1)
    if apart.max() > max(EVEN * usual, EVEN_MM):
        z, t = np.unravel_index(apart.argmax(), apart.shape)
        frame = times[z][t]
        raise CoopsegError(
            f"{frame.shown}: lies {apart.max():.2f} mm beside the line of the other slices in "
            f"{frame.instance.series_name}; export slices that lie behind each other"
        )


def _affine(times: Sequence[Sequence[Frame]]) -> np.ndarray:
    """Returns (4, 4), voxel index to RAS+ mm: X along a row, Y down a column, Z from slice to slice."""
    first, last = times[0][0], times[-1][0]
    between_rows, between_columns = first.pixel
    step = (np.array(last.position) - np.array(first.position)) / (len(times) - 1)
    axes = np.column_stack([
        np.array(first.orientation[:3]) * between_columns,
        np.array(first.orientation[3:]) * between_rows,
        step,
    ])  # fmt: skip
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = TO_RAS @ axes, TO_RAS @ np.array(first.position)
    return affine + 0.0  # no negative zeros


def _origin(times: Sequence[Sequence[Frame]], milliseconds: tuple[float, ...]) -> Origin:
    instances = [frame.instance for frames in times for frame in frames]
    first = instances[0]
    numbers = {i.series_number for i in instances if i.series_number is not None}
    return Origin(
        patient=first.patient,
        study=first.study,
        date=first.date,
        series=tuple(dict.fromkeys(i.series for i in instances)),
        series_numbers=tuple(sorted(numbers)),
        description=first.description,
        modality=first.modality,
        reference=first.reference,
        sources=tuple(
            tuple(
                Source(f.instance.sop, f.instance.sop_class, f.number or None, f.instance.place)
                for f in frames
            )
            for frames in times
        ),
        orientation=times[0][0].orientation,
        positions=tuple(frames[0].position for frames in times),
        slices=_slice_names(times),
        times=milliseconds,
        heart_rate=_middle(instances, lambda i: i.heart_rate),
        interval=_middle(instances, lambda i: i.interval),
        height=_middle(instances, lambda i: i.height),
        weight=_middle(instances, lambda i: i.weight),
    )


def _slice_names(times: Sequence[Sequence[Frame]]) -> tuple[str, ...]:
    """Says by which series or image of the scanner's a person finds each slice; () if none tells them apart.

    The order of places need not be the order in which the scanner counted.
    """
    series = [{frame.instance.series for frame in frames} for frames in times]
    firsts = [frames[0] for frames in times]
    if all(len(each) == 1 for each in series) and len(set.union(*series)) == len(times):
        names = [_series_name(frame.instance) for frame in firsts]
    else:
        names = [_image_name(frame) for frame in firsts]
    return tuple(names) if len(set(names)) == len(names) else ()


def _series_name(instance: Instance) -> str:
    number = "" if instance.series_number is None else str(instance.series_number)
    return " ".join(("series", number, *instance.description[:40].split())).replace("  ", " ")


def _image_name(frame: Frame) -> str:
    if frame.number:
        return f"frame {frame.number}"
    return f"image {frame.order[0]}" if frame.order else ""


def _middle(instances: Iterable[Instance], key: Callable[[Instance], float | None]) -> float | None:
    """Returns the median of a value over the instances that have it."""
    values = [value for instance in instances if (value := key(instance))]
    return median(values) if values else None
