"""Reads values of DICOM data sets, which may be missing, empty or something else than the standard says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


def frame_groups(data: Dataset) -> tuple[Dataset, ...]:
    """Returns what a multi-frame object says of each of its frames; nothing for another object."""
    return tuple(data.get(PER_FRAME) or ())


def shared_group(data: Dataset) -> tuple[Dataset, ...]:
    """Returns what a multi-frame object says of all its frames, as one data set or none."""
    return tuple(data.get(SHARED) or ())[:1]


def first_item(name: str, *where: Dataset) -> Dataset:
    """Returns the first item of a sequence, from the first place that has it; else an empty data set."""
    from pydicom import Dataset

    return next((items[0] for place in where if (items := place.get(name))), Dataset())


def image_type(data: Dataset) -> tuple[str, ...]:
    """Returns ImageType or FrameType, and the component of complex images, in capitals."""
    values = data.get("FrameType") or data.get("ImageType") or ()
    listed = [values] if isinstance(values, str) else list(values)
    component = text(data, "ComplexImageComponent")
    return tuple(str(value).strip().upper() for value in [*listed, *([component] if component else [])])


def text(data: Dataset, name: str) -> str:
    """Returns a value in one line; "" if it is not there."""
    value: Any = data.get(name)
    return "" if value is None else " ".join(str(value).split())


def number(data: Dataset, name: str) -> float | None:
    """Returns a finite number; None if it is not there or is something else."""
    found = numbers(data, name, 1)
    return found[0] if found else None


def numbers(data: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """Returns `count` finite numbers; None if they are not there or are something else."""
    try:
        value: Any = data.get(name)
        values = tuple(map(float, [value] if count == 1 else value))
    except (TypeError, ValueError, OverflowError):
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def first_number(name: str, *where: Dataset) -> float | None:
    """Returns the number of this name from the first place that has it."""
    return next((found for place in where if (found := number(place, name)) is not None), None)
