"""Sorts objects into groups that should each be a scan, and says why others are not scans; reads no file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from coopseg.dicom.types import DicomObject, Frame, Instance, Place
from coopseg.errors import CoopsegError
from coopseg.scans.types import PassedOver
from coopseg.text import counted

MODALITIES = ("MR", "CT")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NO_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "VELOCITY MAP", "R", "REAL", "I", "IMAGINARY"}
SCOUT = re.compile(r"(?<![a-z])(scout|survey|loc(ali[sz]er)?|3-?plane)(?![a-z])", re.IGNORECASE)
SAME_DIRECTION = 1e-3  # difference of direction cosines; the rounding of headers stays below 1e-4
SAME_PLACE = 0.02  # mm along the stack
ONE_LOCATION = "one location only, as of a long-axis view"
EACH_ITS_OWN = "one location in each orientation, as of long-axis views or a localizer"
OTHER_VIEW = "another orientation than the stack of its study"
FEW = 3  # locations of such a view at most
TURNED = np.cos(np.deg2rad(30))  # planes that differ by more are another view
Thing = TypeVar("Thing")


@dataclass
class Groups:
    """Holds frames that should each be a scan, errors of those that cannot be, and what is passed over."""

    scans: list[list[Frame]] = field(default_factory=list)
    refused: list[CoopsegError] = field(default_factory=list)
    passed_over: dict[tuple[str, str, str], list[Instance]] = field(default_factory=dict)

    def leave(self, frames: Iterable[Frame], reason: str) -> None:
        """Passes frames over."""
        for frame in frames:
            self.leave_instance(frame.instance, reason)

    def leave_instance(self, instance: Instance, reason: str) -> None:
        """Passes an instance over."""
        self.passed_over.setdefault((instance.study, instance.series, reason), []).append(instance)

    def described(self) -> list[PassedOver]:
        """Returns a line for each series that was passed over, by the first of its files."""
        lines = []
        for (_, _, reason), instances in self.passed_over.items():
            places = sorted({instance.place for instance in instances})
            what = f"{instances[0].series_name}, {counted(len(places), 'file')}"
            lines.append(PassedOver(places[0].shown, f"{reason}; {what}"))
        return sorted(lines, key=lambda line: (line.path, line.reason))


def sort_objects(objects: Iterable[DicomObject]) -> Groups:
    """Groups the frames of objects, whatever the order in which these were found.

    A series with several locations is a group. Series with one location each are a group if study, frame of
    reference, orientation and description agree, numbers in the description aside. Objects with a fault are
    refused, and so is the group that they would belong to.
    """
    groups, faulty, series = Groups(), list[Instance](), dict[Hashable, list[Frame]]()
    for instance, frames in sorted(objects, key=lambda o: (o.instance.sop, o.instance.place)):
        if reason := why_no_scan(instance, instance.kind):
            groups.leave_instance(instance, reason)
        elif instance.fault:
            faulty.append(instance)
        else:
            for frame in frames:
                if reason := why_no_scan(instance, frame.kind):
                    groups.leave_instance(instance, reason)
                else:
                    series.setdefault(_series(instance), []).append(frame)
    bad = _grouped(faulty, _family)
    spoilt = {_series(instance) for instance in faulty}
    single = [frames for frames in series.values() if not _is_stack(frames, groups, spoilt)]
    _join_series([frame for frames in single for frame in frames], groups, bad)
    groups.refused += map(_refuse_faulty, bad.values())
    _leave_other_views(groups)
    return groups


def why_no_scan(instance: Instance, kind: Sequence[str]) -> str:
    """Says why an object, or a frame of this `kind`, is passed over; "" if it is not."""
    if instance.modality not in MODALITIES:
        return f"modality {instance.modality}, not {' or '.join(MODALITIES)}"
    if not instance.is_image:
        return "no image"
    if instance.sop_class.startswith(SECONDARY_CAPTURE):
        return "a secondary capture"
    if "LOCALIZER" in kind or SCOUT.search(instance.description):
        return "a localizer"
    if kind[:1] == ("DERIVED",) or kind[1:2] == ("SECONDARY",):
        return "derived from other images, by its ImageType"
    if NO_MAGNITUDE & {*kind[2:4], *kind[-1:]}:
        return "not the magnitude, by its ImageType"
    return ""


def _is_stack(frames: list[Frame], groups: Groups, spoilt: Collection[Hashable]) -> bool:
    """Enters the frames of a series into `groups`, unless it has one location and so may be a slice.

    spoilt: series with a fault, which are refused as a whole.
    """
    planes = split_planes(frames)
    if all(len(split_locations(plane)) == 1 for plane in planes):
        if len(planes) > 1:
            groups.leave(frames, EACH_ITS_OWN)
        return len(planes) > 1
    if _series(frames[0].instance) in spoilt:
        return True
    if len(planes) > 1:
        first, other = planes[0][0], planes[1][0]
        groups.refused.append(
            first.instance.refuse(
                f"{other.shown}: another orientation than {first.shown} in {first.instance.series_name}, "
                f"which has {len(planes)}; export each orientation as a series of its own"
            )
        )
    else:
        groups.scans.append(frames)
    return True


def _join_series(frames: Sequence[Frame], groups: Groups, bad: Collection[Hashable]) -> None:
    """Joins series of one location each to stacks, and enters those that are not `bad` into `groups`."""
    alike = _grouped(frames, lambda frame: (_family(frame.instance), frame.instance.reference))
    for slices in alike.values():
        for plane in split_planes(slices):
            if len(split_locations(plane)) == 1:
                groups.leave(plane, ONE_LOCATION)
            elif _family(plane[0].instance) not in bad:
                groups.scans.append(plane)


def _leave_other_views(groups: Groups) -> None:
    """Passes over groups of a few locations that are turned against the largest group of their study."""
    studies = _grouped(groups.scans, lambda frames: frames[0].instance.study)
    groups.scans = []
    for scans in studies.values():
        largest = max(scans, key=lambda frames: len(split_locations(frames)))
        for frames in scans:
            turned = abs(float(normal(frames[0]) @ normal(largest[0]))) < TURNED
            if turned and len(split_locations(frames)) <= min(FEW, len(split_locations(largest)) - 1):
                groups.leave(frames, OTHER_VIEW)
            else:
                groups.scans.append(frames)


def split_planes(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Groups frames by orientation."""
    planes: list[list[Frame]] = []
    for frame in frames:
        for plane in planes:
            apart = zip(plane[0].orientation, frame.orientation, strict=True)
            if all(abs(a - b) < SAME_DIRECTION for a, b in apart):
                plane.append(frame)
                break
        else:
            planes.append([frame])
    return planes


def normal(frame: Frame) -> np.ndarray:
    """Returns (3,) the direction across the image, in LPS+."""
    across = np.cross(frame.orientation[:3], frame.orientation[3:])
    return across / np.linalg.norm(across)


def split_locations(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Groups frames of one orientation by place along its normal, in this order."""
    heights = np.array([frame.position for frame in frames]) @ normal(frames[0])
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order]) > SAME_PLACE) + 1
    return [[frames[index] for index in part] for part in np.split(order, starts)]


def _series(instance: Instance) -> Hashable:
    return instance.patient, instance.study, instance.series


def _family(instance: Instance) -> Hashable:
    """Returns what slices share that are a series each."""
    plain = re.sub(r"\d+", "", instance.description).strip()
    return instance.patient, instance.study, instance.modality, plain


def _grouped(things: Iterable[Thing], key: Callable[[Thing], Hashable]) -> dict[Hashable, list[Thing]]:
    found: dict[Hashable, list[Thing]] = {}
    for thing in things:
        found.setdefault(key(thing), []).append(thing)
    return found


def _refuse_faulty(instances: Sequence[Instance]) -> CoopsegError:
    first: tuple[Place, Instance] = min((i.place, i) for i in instances)
    what, _, do = first[1].fault.rpartition("; ")
    more = f", and so have or are {counted(len(instances) - 1, 'other file')} of it" if instances[1:] else ""
    return first[1].refuse(f"{first[0].shown}: {what} ({first[1].series_name}{more}); {do}")
