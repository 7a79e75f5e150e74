"""Lists and opens the files of a folder and members of zip files; nothing is ever extracted by name."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import BinaryIO, Self
from zipfile import BadZipFile, ZipFile, ZipInfo

from coopseg.dicom.types import Place
from coopseg.errors import CoopsegError
from coopseg.scans.discover import files_below, is_lost, is_nifti, walk
from coopseg.scans.nifti import EXPANSION, MEMORY
from coopseg.text import one_line, open_regular

PREAMBLE, MARK = 128, b"DICM"  # what a DICOM file begins with, and what follows
ZIP = ".zip"
ENCRYPTED = 1  # bit of a member's flags
MOST_MEMBERS = 2_000_000
MOST_BYTES = 2**37  # of all members of a zip file
INDEX = "DICOMDIR"  # the index of a CD; what it lists is found without it
ZIP_ERRORS = (
    BadZipFile,
    EOFError,
    LZMAError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    zlib.error,
)


def is_zip(path: Path) -> bool:
    """Tells whether a file is a zip file by its name."""
    return path.suffix.lower() == ZIP


def holds_dicom(entry: str | Path) -> bool:
    """Tells whether to read a path as DICOM: a zip file, a DICOM file, or a folder of these without NIfTI."""
    path = Path(entry)
    try:
        if not path.is_dir():
            return path.is_file() and (is_zip(path) or (not is_nifti(path) and _has_mark(path)))
    except OSError:  # a name that no file can have
        return False
    if any(is_nifti(file) for files in walk(path) for file in files):
        return False
    return any(is_zip(file) or _has_mark(file) for files in walk(path) for file in files)


def hides_dicom(entry: str | Path) -> bool:
    """Tells whether a folder that is read as NIfTI holds DICOM files too."""
    path = Path(entry)
    try:
        if not path.is_dir():
            return False
    except OSError:  # a name that no file can have
        return False
    return any(not is_nifti(file) and _has_mark(file) for files in walk(path) for file in files)


def _has_mark(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return has_mark(file)
    except OSError:
        return False


def has_mark(file: BinaryIO) -> bool:
    """Tells by its first bytes whether an open file is DICOM; leaves it at its beginning."""
    start = file.read(PREAMBLE + len(MARK))
    file.seek(0)
    return start[PREAMBLE:] == MARK


def list_places(entry: Path, opener: Opener, failed: list[CoopsegError]) -> list[Place]:
    """Lists where DICOM objects may lie below a folder, in a zip file, or in a file.

    failed: collects an error for each link to nothing, and for each zip file that cannot be read.
    """
    places = []
    for file in files_below(entry) if entry.is_dir() else [entry]:
        if is_lost(file):
            failed.append(CoopsegError(f"{file}: a link to nothing; fetch what it links to or remove it"))
        elif is_zip(file):
            try:
                places += opener.members(file)
            except CoopsegError as error:
                failed.append(error)
        elif file.name.upper() != INDEX:
            places.append(Place(file))
    return places


class Opener:
    """Opens places. A zip file stays open until one of another is, since reading its index takes long."""

    def __init__(self) -> None:
        self.current: tuple[Path, ZipFile, list[ZipInfo]] | None = None
        self.ending = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.close()

    def members(self, path: Path) -> list[Place]:
        """Lists the members of a zip file. Raises CoopsegError if it is damaged or claims too much."""
        _, members = self._archive(path)
        return [
            Place(path, member.filename, index)
            for index, member in enumerate(members)
            if not member.is_dir() and not _is_hidden(member) and _name(member).upper() != INDEX
        ]

    @contextmanager
    def open(self, place: Place) -> Iterator[BinaryIO]:
        """Opens a place to read and seek in. Raises CoopsegError if it cannot be read."""
        try:
            if place.index < 0:
                with open_regular(place.path) as file:
                    yield file
                return
            content = io.BytesIO(self._unpack(place))
        except OSError as error:
            raise CoopsegError(
                f"{place.shown}: cannot be read ({error.strerror}); check its rights"
            ) from None
        yield content

    def is_dicom(self, place: Place) -> bool:
        """Tells by its first bytes whether an object is DICOM; of a zip file only these are unpacked."""
        if place.index < 0:
            with self.open(place) as file:
                return has_mark(file)
        return self._unpack(place, PREAMBLE + len(MARK))[PREAMBLE:] == MARK

    def _archive(self, path: Path) -> tuple[ZipFile, list[ZipInfo]]:
        if self.current is None or self.current[0] != path:
            self.current = None
            self.ending.close()
            try:
                archive = self.ending.enter_context(ZipFile(self.ending.enter_context(open_regular(path))))
            except ZIP_ERRORS as error:
                raise _damaged(path, error) from None
            members = archive.infolist()
            claimed = sum(member.file_size for member in members)
            if len(members) > MOST_MEMBERS or claimed > MOST_BYTES:
                raise CoopsegError(
                    f"{path}: claims {len(members)} members of {claimed} bytes in all, more than "
                    f"{MOST_MEMBERS} or {MOST_BYTES}; unpack it, and give the folder"
                )
            if any(member.flag_bits & ENCRYPTED for member in members):
                raise CoopsegError(f"{path}: is encrypted; unpack it, and give the folder")
            self.current = path, archive, members
        return self.current[1:]

    def _unpack(self, place: Place, most: int = -1) -> bytes:
        """Unpacks the first `most` bytes of a member, by default all, whose checksum is then checked."""
        archive, members = self._archive(place.path)
        if [member.filename for member in members[place.index :][:1]] != [place.member]:
            raise CoopsegError(f"{place.path}: has changed while it was read; run this again")
        member = members[place.index]
        if member.file_size > max(MEMORY, EXPANSION * member.compress_size):
            raise CoopsegError(
                f"{place.shown}: claims {member.file_size} bytes in {member.compress_size} compressed ones; "
                "make the zip file again"
            )
        try:
            with archive.open(member) as packed:
                return packed.read(most)
        except ZIP_ERRORS as error:
            raise _damaged(place.shown, error) from None


def _name(member: ZipInfo) -> str:
    return member.filename.rpartition("/")[2]


def _is_hidden(member: ZipInfo) -> bool:
    parts = member.filename.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part.strip(".") for part in parts)


def _damaged(path: Path, error: Exception) -> CoopsegError:
    return CoopsegError(f"{path}: cannot be read as a zip file ({one_line(error)}); make it again")
