"""Writes the files of a request to disk as they come in, and unpacks zip files; both are bounded."""

from __future__ import annotations

import errno
import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from coopseg.serve.places import Places, Refused, Room

MOST_FILES = 20_000  # of a request; a study of DICOM has some thousand
MOST_DIRECTORY = 2**22  # bytes of the list of files in a zip, which takes 50 times as much in memory
PIECE = 2**20  # bytes that are unpacked at once
BROKEN_OFF = "the transfer broke off; send it again"
LONG_LIST, UNUSUAL = "its list of files is too long", "packed by a method other than deflate"
# What zipfile raises for a file that is damaged; it finds places in the file that are not there, too.
DAMAGED = zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that take no more memory than they are given


class Upload:
    """Takes a body of multipart/form-data piece by piece, and writes its files below `folder`.

    length: of the body, as it was declared; 0 if it was not. most_bytes: of the body, and again of all that
    is unpacked from zip files. Raises Refused if the body is no such form, breaks off, holds no file or too
    much.
    """

    def __init__(self, content_type: str, length: int, folder: Path, *, most_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refused(415, "send files as multipart/form-data, as the page does")
        limit = f"the service takes at most {most_bytes // 2**20} MB and {MOST_FILES} files at once"
        self._sent = Room(most_bytes, MOST_FILES, f"too much was sent: {limit}")
        self._sent.check(length)
        self._unpacked = Room(most_bytes, MOST_FILES, f"the zip file unpacks to too much: {limit}")
        self._places = Places(folder)
        self._zips: list[tuple[str, Path]] = []
        self._file: BinaryIO | None = None
        self._name, self._value, self._disposition = b"", b"", b""
        self._files, self._ended = 0, False
        with _readable():
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_name,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._write,
                    "on_part_end": self.close,
                    "on_end": self._end,
                },
            )

    def take(self, piece: bytes) -> None:
        """Write what a piece of the body holds."""
        self._sent.take(len(piece))
        with _readable():
            self._parser.write(piece)

    def finish(self) -> None:
        """Check that all has come, and unpack zip files, each into a folder of its name."""
        if not self._ended:
            raise Refused(400, BROKEN_OFF)
        for sent, file in self._zips:
            unpack(file, sent, self._places, self._unpacked)
            file.unlink()
        if not self._files:
            raise Refused(400, "no file was sent; choose scans, a folder or a zip file")

    def close(self) -> None:
        """Close the file that is being written."""
        if self._file:
            self._file.close()
            self._file = None

    def _begin_part(self) -> None:
        self._name, self._value, self._disposition = b"", b"", b""

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _open(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"filename", b"").decode(errors="replace")
        path = self._places.find(name)
        if path is not None:
            self._sent.take(files=1)
            self._files += 1
            self._file = open(path, "xb")  # noqa: SIM115 (closed at the end of the part)
            if path.suffix.lower() == ".zip":
                self._zips.append((name[: -len(".zip")], path))

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file:
            self._file.write(data[start:end])

    def _end(self) -> None:
        self._ended = True


@contextmanager
def _readable() -> Iterator[None]:
    """Turns what the parser raises into Refused."""
    try:
        yield
    except FormParserError:
        raise Refused(400, "what was sent cannot be read as multipart/form-data; send it again") from None


class _Frugal(io.BufferedReader):
    """Refuses to read much at once: zipfile reads the list of files whole, however long it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = MOST_DIRECTORY + 1
        content = super().read(wanted if size is None or size < 0 else min(size, wanted))
        if len(content) > MOST_DIRECTORY:
            raise zipfile.BadZipFile(LONG_LIST)
        return content


def unpack(file: Path, folder: str, places: Places, room: Room) -> None:
    """Unpack a zip file into `places`. folder: under which its names stand.

    Raises Refused for one that is damaged, encrypted, packed by an unusual method, or larger than `room`;
    what it says of sizes is checked before anything is written, what it holds as it is written.
    """
    try:
        with _Frugal(io.FileIO(file)) as raw, zipfile.ZipFile(raw) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir() and not _is_link(entry)]
            room.check(sum(entry.file_size for entry in entries), len(entries))
            for entry in entries:
                path = places.find(f"{folder}/{entry.filename}")
                if path is None:
                    continue
                if entry.compress_type not in METHODS:
                    raise zipfile.BadZipFile(UNUSUAL)
                room.take(files=1)
                with packed.open(entry) as content, open(path, "xb") as out:
                    while piece := content.read(PIECE):
                        room.take(len(piece))
                        out.write(piece)
    except DAMAGED as error:
        full = isinstance(error, OSError) and error.errno != errno.EINVAL  # which is a place before the start
        if full or isinstance(error, Refused):
            raise
        reason = str(error) if str(error) in (LONG_LIST, UNUSUAL) else "it is damaged, or encrypted"
        raise Refused(400, f"a zip file cannot be unpacked ({reason}); pack it anew") from None


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)
