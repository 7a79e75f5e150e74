"""Puts the images of each slice in order of time, by the first attribute that tells their times apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

from coopseg.dicom.types import Frame
from coopseg.errors import CoopsegError
from coopseg.text import counted

Slices = Sequence[Sequence[Frame]]
Key = Callable[[Frame], float | tuple[int, int] | None]
TRIGGER, DELAY, NUMBER = "TriggerTime", "NominalCardiacTriggerDelayTime", "InstanceNumber"
KEYS: dict[str, Key] = {
    TRIGGER: lambda frame: frame.trigger,
    DELAY: lambda frame: frame.delay,
    "TemporalPositionIdentifier": lambda frame: frame.temporal,
    NUMBER: lambda frame: frame.order,
}


def sort_times(slices: Slices) -> tuple[tuple[tuple[Frame, ...], ...], str]:
    """Sorts the frames of each location by time; returns them with the attribute that they are sorted by.

    That is the first of `KEYS` which all frames have and which is not the same throughout a location. The
    attribute is "" if there is one frame a location. InstanceNumber says nothing of times in CT.
    Raises CoopsegError for two frames of the same place and time, and if numbers of frames differ.
    """
    if max(map(len, slices)) == 1:
        return tuple(map(tuple, slices)), ""
    name = next((name for name, key in KEYS.items() if _tells_apart(name, key, slices)), "")
    if not name:
        raise _twice(*max(slices, key=len)[:2])
    ordered = [sorted(frames, key=lambda frame: _value(name, frame)) for frames in slices]
    for frames in ordered:
        for first, second in pairwise(frames):
            if _value(name, first) == _value(name, second):
                raise _twice(first, second)
    fewest, most = min(ordered, key=len), max(ordered, key=len)
    if len(fewest) != len(most):
        raise CoopsegError(
            f"{fewest[0].shown}: {counted(len(fewest), 'image')} at the place of this slice in "
            f"{fewest[0].instance.series_name}, but {len(most)} at that of {most[0].shown} in "
            f"{most[0].instance.series_name}; export all times of all slices, and each once"
        )
    return tuple(map(tuple, ordered)), name


def time_step(times: Slices, sorted_by: str) -> tuple[float, tuple[str, ...]]:
    """Returns the ms between two times, 0 if nothing says it, and what a user should know of the times."""
    count, first = len(times[0]), times[0][0].instance
    if count == 1:
        return 0.0, ()
    notes = []
    if first.phases and first.phases > 1 and first.phases != count:
        notes.append(f"CardiacNumberOfImages is {first.phases:g}, but {count} times were found")
    if sorted_by in (TRIGGER, DELAY):
        spans = [_value(sorted_by, frames[-1])[0] - _value(sorted_by, frames[0])[0] for frames in times]
        return median(spans) / (count - 1), tuple(notes)
    told = [frame.instance.resolution for frames in times for frame in frames if frame.instance.resolution]
    beats = [frame.instance.interval for frames in times for frame in frames if frame.instance.interval]
    if not told and not beats:
        notes.append(f"sorted by {sorted_by}, and nothing says the time between two images")
    return median(told or [beat / count for beat in beats] or [0.0]), tuple(notes)


def after_r_wave(times: Slices, sorted_by: str) -> tuple[float, ...]:
    """Returns the ms after the R wave of each time, the median over slices; () if nothing says them."""
    if sorted_by not in (TRIGGER, DELAY):
        return ()
    return tuple(
        median(_value(sorted_by, frame)[0] for frame in frames) for frames in zip(*times, strict=True)
    )


def _tells_apart(name: str, key: Key, slices: Slices) -> bool:
    frames = [frame for frames in slices for frame in frames]
    if any(key(frame) is None for frame in frames):
        return False
    if name == NUMBER and frames[0].instance.modality == "CT":
        return False
    return all(len(frames) == 1 or len({key(frame) for frame in frames}) > 1 for frames in slices)


def _value(name: str, frame: Frame) -> tuple[float, ...]:
    """Returns what a frame is sorted by; all frames have it."""
    value = KEYS[name](frame)
    assert value is not None
    return value if isinstance(value, tuple) else (value,)


def _twice(first: Frame, second: Frame) -> CoopsegError:
    same = first.instance.sop == second.instance.sop
    what = "is a copy of" if same else "lies at the same place and time as"
    whose = f"{second.instance.series_name} and {first.instance.series_name}"
    where = "" if same or first.instance.series == second.instance.series else f" ({whose})"
    return CoopsegError(f"{second.shown}: {what} {first.shown}{where}; remove one of them")
