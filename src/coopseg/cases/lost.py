"""Counts what preparation loses: pixels of each class outside the crop, intensities beyond those kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from coopseg.cases.steps import crop_centre
from coopseg.config.settings import CaseSettings

MOST_LOST = 0.001  # share of a class that may lie outside the crop, or be clipped, without a word


@dataclass(frozen=True)
class Count:
    """Counts how many are lost of how many there are."""

    lost: int = 0
    whole: int = 0

    @property
    def share(self) -> float:
        """Returns the lost share; 0 of nothing."""
        return self.lost / self.whole if self.whole else 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.lost + other.lost, self.whole + other.whole)


@dataclass(frozen=True)
class Lost:
    """Holds what is lost of a volume or of several.

    cut: pixels outside the crop, of each foreground class. clipped: voxels whose intensity is clipped.
    """

    cut: Mapping[str, Count] = field(default_factory=dict)
    clipped: Count = Count(0, 0)

    @property
    def shares(self) -> dict[str, float]:
        """Returns the share that the crop cuts of each class, where that is more than MOST_LOST."""
        return {name: count.share for name, count in self.cut.items() if count.share > MOST_LOST}


NOTHING = Lost()


def count_cut(labels: np.ndarray, size: tuple[int, int], names: Sequence[str]) -> dict[str, Count]:
    """Counts pixels of each foreground class outside the crop.

    labels: (slices, rows, columns) class indices into `names`, before the crop. size: rows and columns of it.
    """
    whole = np.bincount(labels.ravel(), minlength=len(names))
    kept = np.bincount(crop_centre(labels, size).ravel(), minlength=len(names))
    return {
        name: Count(int(whole[index] - kept[index]), int(whole[index]))
        for index, name in enumerate(names)
        if index
    }


def count_clipped(volume: np.ndarray, limits: tuple[float, float]) -> Count:
    """Counts voxels whose intensity lies outside the limits."""
    outside = np.count_nonzero(volume < limits[0]) + np.count_nonzero(volume > limits[1])
    return Count(int(outside), volume.size)


def sum_lost(found: Iterable[Lost]) -> Lost:
    """Adds up what several volumes lose."""
    cut: dict[str, Count] = {}
    clipped = Count()
    for one in found:
        clipped += one.clipped
        for name, count in one.cut.items():
            cut[name] = cut.get(name, Count()) + count
    return Lost(cut, clipped)


def describe_lost(lost: Lost, settings: CaseSettings) -> str:
    """Says in one line what is lost under these settings."""
    rows, columns = settings.size
    pixel = "as stored" if settings.spacing is None else f"of {settings.spacing:g} mm"
    crop = f"the crop of {rows} x {columns} pixels {pixel}"
    crop += f" cuts {describe_shares(lost.shares) or f'up to {MOST_LOST:.1%} of a class'}"
    low, high = settings.window or settings.percentiles
    rule = "the window" if settings.window else "percentiles"
    return f"{crop}; {lost.clipped.share:.1%} of voxels are clipped to {rule} {low:g} to {high:g}"


def describe_shares(shares: Mapping[str, float]) -> str:
    """Lists shares, the greatest first: "98.0% of tumour, 3.0% of liver"."""
    ordered = sorted(shares.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{share:.1%} of {name}" for name, share in ordered)
