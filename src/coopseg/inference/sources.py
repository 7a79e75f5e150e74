"""Reads the scans that `predict` is given: NIfTI files, one or several a scan, or stacks of DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coopseg.config.settings import Settings
from coopseg.dicom.pixels import read_stack
from coopseg.dicom.types import Origin, Stack
from coopseg.errors import CoopsegError
from coopseg.inference.predictor import named_channels
from coopseg.measures.function import Body
from coopseg.scans.journal import stamp
from coopseg.scans.layouts.described import CHANNEL, pick_channels
from coopseg.scans.load import join_channels, split_channels
from coopseg.scans.names import stem
from coopseg.scans.nifti import read_image
from coopseg.scans.types import Scan

Source = tuple[Path, ...] | Stack


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
