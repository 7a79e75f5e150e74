"""Implements `import`: writes the scans that DICOM objects hold as NIfTI files, with a record of both."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coopseg.dicom.find import find_objects
from coopseg.dicom.pixels import read_stack
from coopseg.dicom.places import hides_dicom, holds_dicom
from coopseg.dicom.stack import stack_objects
from coopseg.dicom.types import NOTICE, Stack, Stacked
from coopseg.errors import CoopsegError, PartlyDone, first_of
from coopseg.scans.discover import summarise
from coopseg.scans.files import check_new, new_folder, write_json
from coopseg.scans.nifti import write_scan
from coopseg.scans.types import PassedOver
from coopseg.text import Json, counted, listing
from coopseg.versions import versions

log = logging.getLogger(__name__)
RECORD = "import.json"
HIDDEN = "DICOM beside NIfTI, to be given by itself"
LEVEL = 1  # of gzip: noise hardly gets smaller


def open_dicom(entry: str | Path) -> Stacked:
    """Finds the scans below a folder, in a zip file or in a DICOM file; their pixels are not read.

    Raises CoopsegError if there is nothing at `entry`, or no scan there, refused ones included.
    """
    found = find_objects(Path(entry))
    stacked = stack_objects(found.objects)
    refused = (*found.failed, *stacked.refused)
    passed_over = (*stacked.passed_over, *found.passed_over)
    if not stacked.stacks and not refused:
        left = f" ({summarise(passed_over)})" if passed_over else ""
        raise CoopsegError(f"{entry}: no scan found{left}; give a folder or zip file of MR or CT stacks")
    return Stacked(stacked.stacks, refused, passed_over)


@dataclass(frozen=True)
class Given:
    """Holds what the paths given to a command mean.

    stacks: scans of DICOM, by the path that a NIfTI file of its name would have below the given one.
    others: the paths that are no DICOM.
    """

    stacks: dict[Path, Stack]
    refused: tuple[CoopsegError, ...]
    passed_over: tuple[PassedOver, ...]
    others: tuple[str | Path, ...]


def pick_dicom(entries: Sequence[str | Path]) -> Given:
    """Finds the scans of the paths that are DICOM, see `holds_dicom`. Raises as `open_dicom` does.

    DICOM in a folder that holds NIfTI too is passed over.
    """
    dicom = {entry: open_dicom(entry) for entry in entries if holds_dicom(entry)}
    for entry, found in dicom.items():
        log.info("%s: DICOM, %s", entry, counted(len(found.stacks), "scan"))
    hidden = [entry for entry in entries if entry not in dicom and hides_dicom(entry)]
    return Given(
        {Path(entry) / f"{s.name}.nii.gz": s for entry, found in dicom.items() for s in found.stacks},
        tuple(error for found in dicom.values() for error in found.refused),
        (
            *(PassedOver(Path(entry), HIDDEN) for entry in hidden),
            *(left for found in dicom.values() for left in found.passed_over),
        ),
        tuple(entry for entry in entries if entry not in dicom),
    )


def import_dicom(
    source: str | Path, out: str | Path, *, progress: Callable[[int, int, str], None] | None = None
) -> list[Path]:
    """Write every scan of a folder or zip file of DICOM as NIfTI; returns the paths.

    source: folder, searched throughout, zip file, or DICOM file. out: new or empty folder. It gets
    NAME.nii.gz of each scan, float32, with slope and intercept applied and the time between frames in its
    header, where NAME is the patient's id, with the study's date and the series' number where needed; and
    import.json: what each was made from, what was refused, and what was passed over.
    progress: called as (scans done, of all, name).
    Raises CoopsegError if nothing can be imported; `out` is then as it was. Raises PartlyDone, a
    CoopsegError, if only some scans cannot be; the others are then written.
    """
    out = Path(out)
    check_new(out)
    stacked = open_dicom(source)
    failed, written = list(stacked.refused), list[Path]()
    if not stacked.stacks:
        raise first_of(failed)
    with new_folder(out, last=RECORD) as folder:
        for number, stack in enumerate(stacked.stacks, start=1):
            try:
                scan = read_stack(stack)
            except CoopsegError as error:
                failed.append(error)
                continue
            write_scan(folder / f"{stack.name}.nii.gz", scan, level=LEVEL)
            written.append(out / f"{stack.name}.nii.gz")
            if progress:
                progress(number, len(stacked.stacks), stack.name)
        if not written:
            raise first_of(failed)
        done = [stack for stack in stacked.stacks if out / f"{stack.name}.nii.gz" in written]
        record = record_found(Stacked(tuple(done), tuple(failed), stacked.passed_over))
        record |= {"source": str(source), "versions": versions(), "command": sys.argv}
        write_json(folder / RECORD, record)
    if failed:
        total = len(stacked.stacks) + len(stacked.refused)
        raise PartlyDone(failed, written, out, total, then="import them into another --out")
    return written


def record_found(found: Stacked) -> Json:
    """Returns what a record says of scans, refused and passed over ones among them."""
    return {
        "notice": NOTICE,
        "scans": [_describe(stack) for stack in found.stacks],
        "failed": [str(error) for error in found.refused],
        "passed_over": [{"path": str(entry.path), "reason": entry.reason} for entry in found.passed_over],
    }


def _describe(stack: Stack) -> Json:
    """Returns what a record says of a scan: what it is, and every image that it was made from."""
    sources = [
        [{"instance": source.sop, "frame": source.frame, "file": str(source.place.shown)} for source in times]
        for times in stack.origin.sources
    ]
    return {
        "file": f"{stack.name}.nii.gz",
        "shape": stack.shape,
        "spacing": np.linalg.norm(stack.affine[:3, :3], axis=0).round(6).tolist(),
        "milliseconds": stack.step or None,
        "sorted_by": stack.sorted_by or None,
        "notes": stack.notes,
        "origin": {**stack.origin.identifiers, "sources": sources},
    }


def tell_found(found: Stacked) -> Iterator[str]:
    """Yields a line for each scan that would be imported, is refused or passed over, then their numbers."""
    for stack in found.stacks:
        size = " x ".join(map(str, stack.shape))
        spacing = " x ".join(f"{side:.3g}" for side in np.linalg.norm(stack.affine[:3, :3], axis=0))
        time = f", {stack.step:.1f} ms apart" if stack.step else ""
        series = listing([str(number) for number in stack.origin.series_numbers], most=4)
        yield f"scan         {stack.name}: {size} voxels of {spacing} mm{time}, from series {series}"
        yield from (f"warning      {stack.name}: {note}" for note in stack.notes)
    yield from (f"refused      {error}" for error in found.refused)
    yield from (f"passed over  {entry.path}: {entry.reason}" for entry in found.passed_over)
    counts = (counted(len(found.stacks), "scan"), len(found.refused), len(found.passed_over))
    yield "{}, {} refused, {} passed over".format(*counts)
