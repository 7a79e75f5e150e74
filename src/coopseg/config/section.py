"""Defines what every group of settings is, and what is known of a preset, method or rival by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from coopseg.errors import CoopsegError

Value = bool | int | float | str | tuple[int | float | str, ...] | None  # of one setting
Overrides = Mapping[str, Mapping[str, Value]]  # of a preset or method: section, key, value
Changes = Mapping[str, Any] | Iterable[str]  # as a user gives them: {"latent.p": 0.2} or ["latent.p=0.2"]
# A rival that --method names alone adds its terms to this method: no rival was published with an STN.
UNDER_RIVALS = "standard"


class Section(BaseModel):
    """Holds a frozen group of settings and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def checked(cls, values: Any) -> Self:
        """Builds settings from nested values. Raises CoopsegError in one line that names the setting."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            from coopseg.text import listing, shorten  # which loads YAML; --help needs none

            first = error.errors()[0]
            key = listing([".".join(map(str, first["loc"]))])
            found = (
                f" (found {shorten(first['input'])})" if key and not isinstance(first["input"], dict) else ""
            )
            raise CoopsegError(f"setting {key or 'combination'}: {first['msg']}{found}") from None

    def check_ranges(self, *names: str, positive: bool = False) -> None:
        """Raise ValueError for a field (low, high) out of order or below 0; if `positive`, at 0 too."""
        for name in names:
            low, high = getattr(self, name)
            if low > high or low < 0 or (positive and low == 0):
                least = "0 < low" if positive else "0 <= low"
                raise ValueError(f"{name} must satisfy {least} <= high, found {(low, high)}")


@dataclass(frozen=True)
class Named:
    """Says what a preset, method or rival is.

    about: one line. changes: the settings that a preset or method changes. title: for people to read, if the
    name is not clear enough. main: whether it is one of MAIN_ROWS.
    """

    about: str
    changes: Overrides = field(default_factory=dict)
    title: str = ""
    main: bool = False


@dataclass(frozen=True)
class RivalEntry:
    """Says what a rival is, where its code is, and what it stands on.

    path: "module:class", imported only when the rival is trained. base: the method that it stands on. A rival
    adds its terms to those of `base` if --method names it alone. afterwards: it adds no terms to a step, but
    is trained after a finished training of `base`.
    """

    title: str
    citation: str
    path: str = ""
    base: str = UNDER_RIVALS
    afterwards: bool = False
    main: bool = False

    @property
    def about(self) -> str:
        """Returns the line about it, with its citation."""
        return f"{self.title} ({self.citation})"
