"""Says whether the pixels of an object can be read, and reads those of a whole stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coopseg import __version__
from coopseg.dicom.places import Opener
from coopseg.dicom.types import NOTICE, Frame, Place, Stack, undisturbed
from coopseg.errors import CoopsegError, enough_memory
from coopseg.scans.nifti import EXPANSION, MEMORY, new_header
from coopseg.scans.types import Scan

if TYPE_CHECKING:
    from pydicom import FileDataset

PIXEL_HEADER = 8  # bytes of tag and length before the pixels, at least
DEFLATED = "1.2.840.10008.1.2.1.99"  # in it all that follows the file's own header is compressed


def pixel_fault(data: FileDataset, left: int, size: int) -> str:
    """Says why pixels cannot be read, with what to do; "" if they seem to be there.

    data: the header. left: bytes that follow it. size: bytes of all pixels.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        return "does not say how it is encoded (TransferSyntaxUID); export it again"
    try:
        decodes = get_decoder(syntax).is_available
    except NotImplementedError:
        decodes = False
    if not decodes:
        return (
            f"compressed as {syntax.name}, which cannot be decoded here; export it uncompressed, decompress "
            "it (gdcmconv --raw), or install a decoder (pip install pylibjpeg pylibjpeg-libjpeg)"
        )
    if syntax == DEFLATED:  # how much there is shows when it is read
        return ""
    if left < PIXEL_HEADER:
        return "holds no pixel data; export it with its images"
    if not syntax.is_compressed and left - PIXEL_HEADER < size:
        return f"ends after {left - PIXEL_HEADER} of {size} bytes of pixel data; copy it again"
    if size > max(MEMORY, EXPANSION * left):
        return f"claims {size} bytes of pixels in {left} compressed ones; export it again"
    return ""


def read_stack(stack: Stack) -> Scan:
    """Reads the pixels of a stack, with slope and intercept applied: float32, (X, Y, Z) or (X, Y, Z, T).

    The header is that of a NIfTI file, with the time between frames in seconds. Raises CoopsegError if a file
    has gone, cannot be decoded, or holds another image than its header says.
    """
    first = stack.frames[0][0].instance
    try:
        data = _pixels(stack, first.place.shown)
    except CoopsegError as error:
        raise first.refuse(error) from error
    header = new_header(stack.affine, stack.shape, step=stack.step / 1000)
    header["descrip"] = f"coopseg {__version__}; {NOTICE.lower()}".encode()
    return Scan(data, stack.affine, first.place.shown, header, stack.notes)


def _pixels(stack: Stack, first: Path) -> np.ndarray:
    with enough_memory("reading", first):
        data = np.empty((*stack.shape[:3], len(stack.frames[0])), np.float32, order="F")
        with Opener() as opener:
            for place, wanted in _by_place(stack).items():
                for (z, t), frame, pixels in _decoded(opener, place, wanted):
                    slope, intercept = map(np.float64, frame.scaling)
                    data[:, :, z, t] = pixels.T * slope + intercept
        if not np.isfinite(data).all():
            raise CoopsegError(f"{first}: the scan holds values that are not finite; export it again")
    return data.reshape(stack.shape, order="F")


def _by_place(stack: Stack) -> Mapping[Place, list[tuple[tuple[int, int], Frame]]]:
    """Groups the frames by the file they lie in, in the file's order, so that each is opened once."""
    places: dict[Place, list[tuple[tuple[int, int], Frame]]] = {}
    for z, times in enumerate(stack.frames):
        for t, frame in enumerate(times):
            places.setdefault(frame.instance.place, []).append(((z, t), frame))
    return {place: sorted(frames, key=lambda entry: entry[1].number) for place, frames in places.items()}


def _decoded(
    opener: Opener, place: Place, wanted: Sequence[tuple[tuple[int, int], Frame]]
) -> Iterator[tuple[tuple[int, int], Frame, np.ndarray]]:
    """Yields (z, t), the frame and its pixels (rows, columns), as they are stored."""
    from pydicom import dcmread
    from pydicom.pixels.utils import iter_pixels

    with undisturbed(place), opener.open(place) as file:
        images = iter_pixels(dcmread(file), indices=[max(f.number - 1, 0) for _, f in wanted], raw=True)
        for (index, frame), pixels in zip(wanted, images, strict=True):
            if pixels.shape != frame.instance.shape:
                raise CoopsegError(f"{place.shown}: has changed since its header was read; run this again")
            yield index, frame, pixels
