"""Says what a person should look at: one remark for all phases in which the same is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from coopseg.text import NUMBER, runs


class Order(IntEnum):
    """Says what a person should see first: what keeps a number from being given, last what was mended.

    SCAN: what is odd about the scan itself, since all else may follow from it.
    """

    NO_NUMBER = 0
    SCAN = 1
    NOT_FOUND = 2
    DOUBTED = 3
    DISAGREE = 4
    OTHER = 5
    MENDED = 6


@dataclass(frozen=True)
class Remark:
    """Says what to look at in a scan, or about a patient.

    text: for people. kind: the same wherever the same is wrong, whatever the numbers are. size: how much is
    wrong, by which the phases compare. order: its place among others. phases: those concerned, from 1; none
    for a remark on the whole.
    """

    text: str
    kind: str
    size: float = 0.0
    order: Order = Order.OTHER
    phases: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Says volumes in words. voxel_ml: None where no true volume is known. voxels: of each structure."""

    voxel_ml: float | None
    voxels: Mapping[str, int]

    def describe(self, structure: str, voxels: int) -> str:
        """Says how much that is: in ml, or as a share of the structure.

        >>> Scale(0.02, {"LV": 500}).describe("LV", 25), Scale(None, {"LV": 500}).describe("LV", 25)
        ('0.5 ml', '5.0 % of it')
        >>> Scale(0.02, {"LV": 500}).describe("LV", 1)
        'less than 0.1 ml'
        """
        if self.voxel_ml is None:
            amount, unit = 100 * voxels / max(self.voxels[structure], 1), "% of it"
        else:
            amount, unit = voxels * self.voxel_ml, "ml"
        return f"less than 0.1 {unit}" if amount < 0.1 else f"{amount:.1f} {unit}"


def remark_on(
    lines: Iterable[str], order: Callable[[str], Order] = lambda _: Order.OTHER
) -> tuple[Remark, ...]:
    """Makes remarks of plain lines, whose kind is their text without numbers. order: of a line."""
    return tuple(Remark(line, NUMBER.sub("#", line), order=order(line)) for line in lines)


def join_phases(found: Sequence[Sequence[Remark]]) -> tuple[Remark, ...]:
    """Makes one remark of all of one kind. found: those of each phase, in order.

    The text is that of the phase in which most is wrong.

    >>> [each.text for each in join_phases([(), remark_on(["RV not found"]), remark_on(["RV not found"])])]
    ['RV not found (phases 2 to 3 of 3)']
    """
    kinds: dict[tuple[str, int], dict[int, Remark]] = {}
    for phase, remarks in enumerate(found, start=1):
        seen = Counter[str]()
        for each in remarks:  # two channels may have remarks of one kind
            kinds.setdefault((each.kind, seen[each.kind]), {})[phase] = each
            seen[each.kind] += 1
    return tuple(_join(own, len(found)) for own in kinds.values())


def _join(own: Mapping[int, Remark], total: int) -> Remark:
    worst = max(own, key=lambda phase: own[phase].size)
    text = own[worst].text
    if total > 1:
        where = f"phase{'s' if len(own) > 1 else ''} {runs(tuple(own))} of {total}"
        most = f", most in {worst}" if len({each.size for each in own.values()}) > 1 else ""
        text = f"{text} ({where}{most})"
    return replace(own[worst], text=text, phases=tuple(own))
