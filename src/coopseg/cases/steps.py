"""Does the steps of preparation one by one, and undoes them: intensities, resampling, crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def scale_to_percentiles(
    volume: np.ndarray, percentiles: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, float]]:
    """Clip a volume at two of its percentiles and scale what lies between them to [0, 1].

    volume: any shape, any range. Returns the scaled volume as float32 and the two intensities that
    became 0 and 1; percentiles between two ranks are interpolated linearly. A volume whose two
    percentiles coincide (a constant one, or one that is nearly all padding) becomes zeros.
    """
    limits = percentile_limits(volume, percentiles)
    return scale_to_limits(volume, limits), limits


def percentile_limits(volume: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Returns two percentiles of a volume, rounded to float32."""
    low, high = np.percentile(volume, percentiles).astype(np.float32).tolist()
    return low, high


def scale_to_limits(volume: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Clip a volume at two intensities and scale what lies between them to [0, 1], as float32.

    Zeros if the limits coincide.
    """
    low, high = np.float32(limits[0]), np.float32(limits[1])
    if not high > low:
        return np.zeros(volume.shape, np.float32)
    return (volume.clip(low, high).astype(np.float32, copy=False) - low) / (high - low)


def minmax_slices(volume: np.ndarray) -> np.ndarray:
    """Scales every slice, (slices, H, W), to [0, 1] by its own least and greatest value.

    A constant slice becomes zeros. Returns float32.
    """
    low = volume.min(axis=(1, 2), keepdims=True)
    high = volume.max(axis=(1, 2), keepdims=True)
    span = np.where(high > low, high - low, 1)
    scaled: np.ndarray = ((volume - low) / span).astype(np.float32, copy=False)
    return scaled


def resampled_length(length: int, step: float) -> int:
    """Returns how many new pixels of `step` old ones cover `length` old pixels; at least 1."""
    return max(1, round(length / step))


def source_coordinates(length: int, new_length: int, step: float) -> np.ndarray:
    """Returns (new_length,) float64: the new pixels' centres in old pixels, clipped to [0, length - 1]."""
    coordinates = (np.arange(new_length) - (new_length - 1) / 2) * step + (length - 1) / 2
    return coordinates.clip(0, length - 1)


def interpolate_linear(volume: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolates (..., H, W) linearly at every pair of a row and a column coordinate, in pixels.

    Returns (..., len(rows), len(columns)) float32 in the range of the input; coordinates beyond the
    outermost centres take the outermost pixel. An axis already on its coordinates is not touched.
    """
    volume = volume.astype(np.float32, copy=False)
    for axis, coordinates in ((-1, columns), (-2, rows)):
        last = volume.shape[axis] - 1
        if np.array_equal(coordinates, np.arange(last + 1)):
            continue
        held = coordinates.clip(0, last)
        left = np.floor(held).astype(int)
        weight = (held - left).astype(np.float32).reshape(-1, *[1] * (-1 - axis))
        first = volume.take(left, axis)
        volume = volume.take(np.minimum(left + 1, last), axis)
        volume -= first
        volume *= weight
        volume += first
    return volume


def take_nearest(labels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Takes labels (..., H, W) at the nearest centres, coordinates as in `interpolate_linear`; ties go up."""
    for axis, coordinates in ((-1, columns), (-2, rows)):
        nearest = np.floor(coordinates + 0.5).astype(int).clip(0, labels.shape[axis] - 1)
        labels = labels.take(nearest, axis)
    return labels


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
            crop = "the crop of {} x {} pixels".format(*labels.shape[-2:])
            if lost:
                line = f"{crop} cuts off {lost} of its {lost + int(here.sum())} pixels"
            else:
                line = f"reaches the edge of {crop}"
                line += "; more may lie outside" if whole is None else ""
            warnings.append(f"{name}: {line}")
    return tuple(warnings)
