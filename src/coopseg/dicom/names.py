"""Names scans by their patients, so that the names are safe and unique file names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from coopseg.dicom.types import Origin
from coopseg.scans.names import nfc

UNSAFE = re.compile(r"[^\w.-]+")  # \w: letters and digits of any script, and _
LONGEST, LONGEST_END = 120, 30  # bytes of a patient's id and of what is added; a file name has room for 255
NAMELESS = "patient"


def name_scans(origins: Sequence[Origin]) -> list[str]:
    """Returns a name for each scan: the patient's id, with the study's date and the series' number if needed.

    A date is added to all scans of a patient with several studies, a number to all scans of a study with
    several. What is still alike then, in any case of its letters, is counted.
    """
    names = [_safe(origin.patient) for origin in origins]
    names = _told_apart(names, [o.study for o in origins], [o.date for o in origins])
    series = [_series(origin) for origin in origins]
    names = _told_apart(names, [str((o.study, o.series)) for o in origins], series)
    order = sorted(range(len(names)), key=lambda k: (origins[k].study, origins[k].series))
    taken: Counter[str] = Counter()
    for index in order:
        name = names[index]
        while taken[names[index].casefold()]:
            taken[name.casefold()] += 1
            names[index] = f"{name}-{taken[name.casefold()]}"
        taken[names[index].casefold()] += 1
    return names


def _told_apart(names: Sequence[str], things: Sequence[str], ends: Sequence[str]) -> list[str]:
    """Adds its end to each name that several different things have."""
    having: dict[str, set[str]] = {}
    for name, thing in zip(names, things, strict=True):
        having.setdefault(name.casefold(), set()).add(thing)
    return [
        f"{name}_{_safe(end, LONGEST_END)}" if end and len(having[name.casefold()]) > 1 else name
        for name, end in zip(names, ends, strict=True)
    ]


def _series(origin: Origin) -> str:
    return f"series{origin.series_numbers[0]}" if origin.series_numbers else ""


def _safe(text: str, most: int = LONGEST) -> str:
    """Returns what of a text can stand in a file name; never "", hidden, or an option of a command."""
    short = UNSAFE.sub("-", nfc(text)).encode()[:most].decode(errors="ignore")
    return short.strip("-._") or NAMELESS
