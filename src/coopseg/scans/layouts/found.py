"""Holds what a layout found in a folder, and finds what it left: links to nothing, files it does not use."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.discover import OTHER_FORMAT, check_found, files_below, is_lost, is_nifti, is_scan_like
from coopseg.scans.files import is_file
from coopseg.scans.types import Dataset, Labels, PassedOver, ScanRef

Problems = list[CoopsegError] | None  # None: the first problem is raised


@contextmanager
def keep(problems: Problems) -> Iterator[None]:
    """Adds a CoopsegError raised in the block to `problems`; lets it pass if `problems` is None."""
    try:
        yield
    except CoopsegError as error:
        if problems is None:
            raise
        problems.append(error)


@dataclass(frozen=True)
class Layout:
    """Describes a layout: what it looks for, whether a folder has that, how to list what is there.

    list_found: (folder, labels or None, problems) -> Found; it reads no scan unless labels must be found.
    """

    looked_for: str
    recognise: Callable[[Path], bool]
    list_found: Callable[[Path, Labels | None, Problems], Found]


@dataclass(frozen=True)
class Found:
    """Holds what a layout lists in a folder.

    items: volumes, in order. tests: those that are test images, which may lack labels. places:
    folders that belong to the layout, so that whatever looks like a scan below them should be used. why:
    says why a NIfTI file below them is not, "" if that is as it should be. passed_over: what the layout
    itself leaves out.
    """

    name: str
    labels: Labels
    items: Sequence[ScanRef]
    tests: Collection[ScanRef] = ()
    places: Sequence[Path] = ()
    why: Callable[[Path], str] = lambda path: "not listed"
    passed_over: Sequence[PassedOver] = ()
    channels: tuple[str, ...] = ("",)

    def complete(self, path: Path, layout: str, problems: Problems, *, lost_too: bool = False) -> Dataset:
        """Makes the data set: takes out lost and unlabelled test volumes, and names what is not used.

        lost_too: keep volumes of which a file is lost; the reader of the file refuses them.
        Raises CoopsegError for links to nothing, or adds one for each to `problems`.
        """
        files = [file for item in self.items for file in (*item.images, item.label) if file]
        around = [file for place in self.places for file in files_below(place)]
        passed_over = [*self.passed_over, *self._unused(around, files)]
        lost = [
            file
            for file in dict.fromkeys((*files, *self.places, *around))
            if is_lost(file) and _is_wanted(file) and not (lost_too and file in files)
        ]
        for number in range(len(lost)):
            with keep(problems):
                check_found(lost if problems is None else lost[number : number + 1])
        there = [item for item in self.items if not {*item.images, item.label} & {*lost}]
        unlabelled = tuple(item for item in there if item.label is None and item in self.tests)
        items = tuple(item for item in there if item not in unlabelled)
        left = tuple(passed_over)
        return Dataset(self.name, path, layout, self.labels, items, unlabelled, left, channels=self.channels)

    def _unused(self, around: Sequence[Path], files: Sequence[Path]) -> Iterator[PassedOver]:
        known = (*files, *(entry.path for entry in self.passed_over))
        used = {os.path.realpath(file) for file in known if is_file(file)}
        for file in dict.fromkeys(around):
            if is_scan_like(file) and not is_lost(file) and os.path.realpath(file) not in used:
                reason = self.why(file) if is_nifti(file) else OTHER_FORMAT
                yield from [PassedOver(file, reason)] if reason else []


def _is_wanted(link: Path) -> bool:
    """Tells whether a link to nothing may have been a scan or a folder of them."""
    return is_scan_like(link) or not link.suffix
