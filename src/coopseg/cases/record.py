"""Records what was done to a scan, so that it can be undone and read by others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from coopseg.scans.geometry import Orientation


@dataclass(frozen=True)
class Record:
    """Holds every step from a scan to a case, in order; `to_dict` makes plain JSON of it.

    shape: the stored grid (X, Y, Z). orientation: how it became (slices, rows, columns).
    stored_spacing: mm of (slices, rows, columns) before resampling.
    clip: the intensities that became 0 and 1; None if the scan came normalised.
    steps: stored pixels per resampled pixel, rows and columns; exactly 1 if nothing was interpolated.
    resampled: (rows, columns) after resampling. size: (H, W) of the crop or padding around the centre.
    slice_range: the two values of each slice that became 0 and 1; None if slices were left alone.
    """

    shape: tuple[int, int, int]
    orientation: Orientation
    stored_spacing: tuple[float, float, float]
    clip: tuple[float, float] | None
    steps: tuple[float, float]
    resampled: tuple[int, int]
    size: tuple[int, int]
    slice_range: tuple[tuple[float, float], ...] | None

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

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict for JSON; `from_dict` undoes it."""
        entries = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**entries, "orientation": self.orientation.as_dict()}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Record:
        """Undoes `to_dict`, also after a trip through JSON."""
        values = {name: _tuples(value) for name, value in entries.items() if name != "orientation"}
        return cls(orientation=Orientation.from_dict(entries["orientation"]), **values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value
