"""Defines the verb `coopseg import`, and what `coopseg validate` says of DICOM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from coopseg.cli.console import NewFolder, counting, say, warn
from coopseg.errors import PartlyDone
from coopseg.text import counted

FAULTY = 1  # exit code of validate if a scan would be refused


def import_(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="folder, zip file or file of DICOM", show_default=False),
    ],
    out: NewFolder,
) -> None:
    """Write the scans of a folder or zip file of DICOM as NIfTI files.

    Short-axis cine MR and other stacks of slices are found by what the objects say, whatever their names:
    with a series for each slice or one for all, classic or Enhanced multi-frame, and of many patients at
    once. OUT gets NAME.nii.gz for each scan, 4-D with the time between frames if there are several times, and
    import.json: what each was made from, what was refused, and what was passed over, such as localizers and
    long-axis views. NAME is the patient's id, with the study's date and the series' number where needed.
    Scans that cannot be used are named at the end; the exit code is then 1. If none can be used, nothing is
    written. `coopseg validate IN` says the same without writing. Needs `pip install "coopseg[dicom]"`.
    Research software, not a medical device.
    """
    from coopseg.dicom.convert import RECORD, import_dicom
    from coopseg.scans.discover import summarise
    from coopseg.scans.types import PassedOver

    partly = None
    try:
        with counting("imported") as progress:
            written = import_dicom(source, out, progress=progress)
    except PartlyDone as error:
        partly, written = error, list(error.done)
    entries = json.loads((out / RECORD).read_text(encoding="utf-8"))["passed_over"]
    if line := summarise(PassedOver(Path(entry["path"]), entry["reason"]) for entry in entries):
        warn(f"{line}; {out / RECORD} names them")
    say(f"{counted(len(written), 'scan')} in {out}; {out / RECORD} says what they were made from")
    if partly:
        raise partly


def say_what_import_finds(source: Path, *, as_json: bool) -> None:
    """Prints what `coopseg import` would find in a folder or zip file. Exits with 1 if it refuses any."""
    from coopseg.dicom.convert import open_dicom, record_found, tell_found

    found = open_dicom(source)
    say(json.dumps(record_found(found), indent=1) if as_json else "\n".join(tell_found(found)))
    if found.refused:
        raise typer.Exit(FAULTY)
