"""Reads the scans that `predict` is given: NIfTI files, one or several a scan, or stacks of DICOM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coopseg.config.settings import Settings
from coopseg.dicom.convert import pick_dicom
from coopseg.dicom.pixels import read_stack
from coopseg.dicom.types import Origin, Stack
from coopseg.errors import CoopsegError, first_of
from coopseg.inference.predictor import named_channels
from coopseg.measures.function import Body
from coopseg.scans.discover import expand_scans
from coopseg.scans.journal import stamp
from coopseg.scans.layouts.described import CHANNEL, pick_channels
from coopseg.scans.load import join_channels, split_channels
from coopseg.scans.names import stem
from coopseg.scans.nifti import read_image
from coopseg.scans.types import PassedOver, Scan

Source = tuple[Path, ...] | Stack


@dataclass(frozen=True)
class Sources:
    """Holds what the scans that somebody gave are read from, by their names.

    failed: an error for each that cannot be used. passed_over: what is no scan.
    """

    found: Mapping[Path, Source]
    failed: tuple[CoopsegError, ...]
    passed_over: tuple[PassedOver, ...]

    @property
    def total(self) -> int:
        """Returns how many scans there are, whether they can be used or not."""
        return len(self.found) + len(self.failed)


def find_sources(scans: str | Path | Sequence[str | Path], settings: Settings) -> Sources:
    """Finds the scans of files, folders, patterns and DICOM for a model; see `expand_scans`, `pick_dicom`.

    Raises CoopsegError if there are none, and as these do.
    """
    lost = list[Path]()
    entries = [scans] if isinstance(scans, str | Path) else scans
    picked = pick_dicom(entries)
    paths, passed_over = expand_scans(picked.others, lost) if picked.others or not entries else ([], [])
    nothing = "a link to nothing; fetch what it links to or remove it"
    failed = (*(CoopsegError(f"{path}: {nothing}") for path in lost), *picked.refused)
    found = group_channels(paths, settings.network.channels) | picked.stacks
    if not found:
        raise first_of(failed)
    return Sources(found, failed, (*passed_over, *picked.passed_over))


def group_channels(paths: Sequence[Path], count: int) -> dict[Path, tuple[Path, ...]]:
    """Groups the files CASE_0000, CASE_0001, ... of scans of `count` channels under CASE.nii.gz, in order.

    A file without such a number is a scan of its own, as is every file if there is one channel. Whether all
    channels are there shows when a scan is read.
    """
    groups: dict[Path, tuple[Path, ...]] = {}
    for path in paths:
        numbered = count > 1 and CHANNEL.search(stem(path))
        name = path.with_name(f"{CHANNEL.sub('', stem(path))}.nii.gz") if numbered else path
        groups[name] = (*groups.get(name, ()), path)
    return groups


def stamps(source: Source) -> list[list[list[int]]]:
    """Returns size and time of the files of a scan, which change when a file does."""
    return [stamp(*source.origin.files)] if isinstance(source, Stack) else [*map(stamp, source)]


def read_source(source: Source, settings: Settings) -> tuple[Scan, tuple[str, ...]]:
    """Reads a scan for a model with these settings; returns it, and lines on how it was read.

    Raises CoopsegError for a scan that lacks a channel or has one too many, and as its readers do.
    """
    count = settings.network.channels
    if isinstance(source, Stack):
        if count > 1:
            raise CoopsegError(
                f"{source.origin.files[0]}: a scan of one channel, but the model was trained on {count}; "
                "import it, and name the files of the channels CASE_0000.nii.gz, CASE_0001.nii.gz, ..."
            )
        return read_stack(source), ()
    if count == 1:
        return read_image(source[0]), ()
    if CHANNEL.search(stem(source[0])):
        files = pick_channels(source, count, wanted_by="the model was trained on")
        return join_channels([read_image(file) for file in files]), ()
    axis = f"its fourth axis is taken for the {count} channels{named_channels(settings.cases)}"
    return split_channels(read_image(source[0]), count), (axis,)


def body_of(origin: Origin) -> Body:
    """Returns height and weight as the headers of a DICOM study say them."""
    return Body(None if origin.height is None else round(100 * origin.height, 1), origin.weight)
