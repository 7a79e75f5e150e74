"""What every group of settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def check_ranges(self, *names: str, positive: bool = False) -> None:
        """Raise ValueError for a field (low, high) out of order or below 0, with positive at 0 too."""
        for name in names:
            low, high = getattr(self, name)
            if low > high or low < 0 or (positive and low == 0):
                least = "0 < low" if positive else "0 <= low"
                raise ValueError(f"{name} must satisfy {least} <= high, found {(low, high)}")
