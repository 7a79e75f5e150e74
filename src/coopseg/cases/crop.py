"""Pads or crops around the centre, undoes it, and warns where a structure meets the edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def centre_start(length: int, size: int) -> int:
    """Returns the first old pixel of the centred window of `size` pixels; negative if it is padded."""
    return (length - size) // 2


def crop_centre(volume: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crops (..., rows, columns), or pads it with zeros, to (..., *size) around the centre."""
    inside, window = overlap(volume.shape[-2:], size)
    cropped = np.zeros((*volume.shape[:-2], *size), volume.dtype)
    cropped[..., window[0], window[1]] = volume[..., inside[0], inside[1]]
    return cropped


def undo_crop(volume: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Puts (..., H, W) back into a plane of `shape` with zeros around it; padding is cut off."""
    inside, window = overlap(shape, volume.shape[-2:])
    whole = np.zeros((*volume.shape[:-2], *shape), volume.dtype)
    whole[..., inside[0], inside[1]] = volume[..., window[0], window[1]]
    return whole


def overlap(shape: Sequence[int], size: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Returns the part that an image of `shape` and its centred window of `size` share, as slices of each."""
    starts = [centre_start(length, side) for length, side in zip(shape, size, strict=True)]
    inside = [slice(max(s, 0), min(s + n, m)) for s, n, m in zip(starts, size, shape, strict=True)]
    window = [slice(part.start - s, part.stop - s) for part, s in zip(inside, starts, strict=True)]
    return inside, window


def edge_warning(
    labels: np.ndarray, names: Sequence[str], *, whole: np.ndarray | None = None
) -> tuple[str, ...]:
    """Returns one line for each foreground class that the crop cuts or may cut.

    labels: (slices, H, W) class indices within the crop, true or predicted. names: one per index.
    whole: the same labels before the crop, if known; its pixels outside the crop are counted.
    """
    warnings = []
    for index, name in enumerate(names[1:], start=1):
        here = labels == index
        lost = 0 if whole is None else int((whole == index).sum() - here.sum())
        touching = int(here.sum() - here[:, 1:-1, 1:-1].sum())
        if lost or touching:
            outside = f"{lost} of {lost + int(here.sum())} pixels lie outside the crop, " if lost else ""
            height, width = labels.shape[-2:]
            warnings.append(
                f"{name}: {outside}{touching} pixels touch the edge of the {height} x {width} crop"
            )
    return tuple(warnings)
