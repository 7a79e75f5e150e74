"""Reads names: what a file's says of its volume, and which patients' look like visits of one person."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from coopseg.text import counted, listing

NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
PHASE = re.compile(r"^(?P<before>.+)_(?P<phase>ED|ES|frame\d+)$", re.IGNORECASE)
SUBJECT = re.compile(r"^(?P<patient>sub-[^_]+)_(?P<session>.+)$")  # as BIDS names files
SEEN = re.compile(  # ends that say themselves that they are views or visits
    r"(.+?)[_-](sax?|lax?|[2-4]ch|baseline|follow-?up|pre|post|(?:visit|scan|exam|time|tp|ses|v|t)[_-]?\d{1,2})",
    re.IGNORECASE,
)
# ends that are, if they count anew behind several names: study_0800, study_0801, study_0900, study_0901
COUNTED = (
    re.compile(r"(?P<stem>.*[^_-])[_-]?(?P<end>[0-9])"),
    re.compile(r"(?P<stem>.*[^_-])[_-]?(?P<end>[0-9]{2})"),
    re.compile(r"(?P<stem>.*[0-9])[_-]?(?P<end>[a-z])", re.ASCII | re.IGNORECASE),
)
MOST_VISITS = 9  # more than these are patients of one hospital rather than visits of one patient


def stem(path: Path) -> str:
    """Returns the file name without .nii or .nii.gz, in any case, in the form of `nfc`."""
    return nfc(NIFTI.sub("", path.name))


def nfc(name: str) -> str:
    """Returns a name in Unicode's form NFC, in which names are compared.

    A Mac writes "ü" as "u" and "¨" (NFD), others as one letter; to the eye the names are the same.
    """
    return unicodedata.normalize("NFC", name)


class Named(NamedTuple):
    """Holds what a file name says of a volume; session and phase are "" where it names none."""

    patient: str
    session: str
    phase: str


def read_name(name: str) -> Named:
    """Reads patient, session and phase from a name such as "p01_ED", "p01_frame07" or "sub-01_ses-2_ES".

    Two volumes of one person must share a patient name, or a split by patient would put them on both sides.
    Without such a mark the whole name is the patient's.
    """
    match = PHASE.match(name)
    before, phase = (match["before"], match["phase"]) if match else (name, "")
    phase = phase.upper() if phase.upper() in ("ED", "ES") else phase
    subject = SUBJECT.match(before)
    return Named(subject["patient"], subject["session"], phase) if subject else Named(before, "", phase)


def alike_patients(patients: Collection[str]) -> list[tuple[str, ...]]:
    """Returns groups of patients whose names differ in a last short number, letter or view alone.

    Such as smith_SA and smith_LA, or study_0800 and study_0801 beside study_0900: perhaps visits or views of
    one person, whom a split by patient would put on both sides. Plain numbering, as of case01 to case12, is
    none of that.
    """
    named = _groups((name, match[1], match[2]) for name in patients if (match := SEEN.fullmatch(name)))
    if any(len(group) > 1 for group in named.values()):
        return [tuple(group.values()) for group in named.values() if len(group) > 1]
    for pattern in COUNTED:
        matches = [(name, pattern.fullmatch(name)) for name in patients]
        groups = _groups((name, found["stem"], found["end"]) for name, found in matches if found)
        if all(found for _, found in matches) and _count_visits(groups):
            return [tuple(group.values()) for group in groups.values() if len(group) > 1]
    return []


def describe_alike(groups: Sequence[Sequence[str]]) -> str:
    """Says which patients may be one person, by groups as `alike_patients` returns them."""
    more = f", and so may {counted(len(groups) - 1, 'more group')}" if len(groups) > 1 else ""
    return f"{listing(groups[0], most=4)} may be visits or views of one person{more}"


def _groups(parts: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    """Groups (name, stem, end) by stem: {stem: {end: name}}, ends in order."""
    groups: dict[str, dict[str, str]] = {}
    for name, stem, end in sorted(parts):
        groups.setdefault(stem, {})[end.lower()] = name
    return groups


def _count_visits(groups: Mapping[str, Mapping[str, str]]) -> bool:
    """Tells whether ends count anew behind each of several stems."""
    counts = [[int(e) if e.isdigit() else ord(e) - ord("a") for e in ends] for ends in groups.values()]
    first = {ends[0] for ends in counts}
    runs = all(ends == list(range(ends[0], ends[0] + len(ends))) for ends in counts)
    several = sum(len(ends) > 1 for ends in counts)
    return (
        runs and several > 1 and several >= len(counts) / 2
        and len(first) == 1 and first <= {0, 1}
        and max(map(len, counts)) <= MOST_VISITS
    )  # fmt: skip
