"""Defines the base class of every group of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Holds a frozen group of settings and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def check_ranges(self, *names: str, positive: bool = False) -> None:
        """Raise ValueError for a field (low, high) out of order or below 0; if `positive`, at 0 too."""
        for name in names:
            low, high = getattr(self, name)
            if low > high or low < 0 or (positive and low == 0):
                least = "0 < low" if positive else "0 <= low"
                raise ValueError(f"{name} must satisfy {least} <= high, found {(low, high)}")
