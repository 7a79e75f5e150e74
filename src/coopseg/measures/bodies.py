"""Reads heights and weights of patients from a table."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.measures.function import Body
from coopseg.scans.names import nfc
from coopseg.text import listing, read_text, shorten

PATIENT, HEIGHT, WEIGHT = COLUMNS = ("patient", "height_cm", "weight_kg")


def read_bodies(path: Path) -> dict[str, Body]:
    """Reads a CSV file with the columns patient, height_cm and weight_kg, others beside them or not.

    An empty cell stands for what is not known. Raises CoopsegError for a table that cannot be read, a column
    that is not there, a patient who is there twice and a cell that is no number.
    """
    try:
        header, *lines = csv.reader(io.StringIO(read_text(path)), strict=True)
    except (csv.Error, ValueError) as error:
        if isinstance(error, CoopsegError):
            raise
        raise CoopsegError(f"{path}: cannot be read as CSV ({error}); write a line a patient") from None
    names = [name.strip() for name in header]
    if missing := [name for name in COLUMNS if names.count(name) != 1]:
        raise CoopsegError(
            f"{path}: not one column {listing(missing)}; call the columns {', '.join(COLUMNS)}"
        )
    found: dict[str, Body] = {}
    for line in lines:
        row = dict(zip(names, (cell.strip() for cell in line), strict=False))
        patient = nfc(row.get(PATIENT, ""))
        if patient in found:
            raise CoopsegError(f"{path}: patient {shorten(patient)} is there twice; leave the right line")
        if patient:
            found[patient] = Body(
                *(_number(row.get(key, ""), key, patient, path) for key in (HEIGHT, WEIGHT))
            )
    return found


def _number(text: str, key: str, patient: str, path: Path) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise CoopsegError(f"{path}: {key} of {shorten(patient)} is {shorten(text)}; write a number")
    return number
