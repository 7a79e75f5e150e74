"""Chooses where files that were sent are written; no path from outside is used as it is."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.names import nfc

LONGEST = 100  # bytes of a name; `predict` adds to it, and file systems allow 255
DEEPEST = 8  # folders below one another that are kept, the last ones
MAC = "__MACOSX"  # a folder in zip files of macOS, whose files are no scans


class Refused(CoopsegError):  # noqa: N818 (the service is right)
    """A request cannot be served. status: of the HTTP response, whose body is the message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Room:
    """Counts bytes and files; raises Refused, which names `limit`, where there are too many."""

    def __init__(self, most_bytes: int, most_files: int, limit: str) -> None:
        self._bytes, self._files, self._limit = most_bytes, most_files, limit

    def check(self, size: int = 0, files: int = 0) -> None:
        """Raise Refused if so many more are too many."""
        if size > self._bytes or files > self._files:
            raise Refused(413, f"{self._limit}; send fewer scans at once")

    def take(self, size: int = 0, files: int = 0) -> None:
        """Count so many more."""
        self.check(size, files)
        self._bytes -= size
        self._files -= files


def clean(name: str) -> str:
    """Returns a name that is safe on disk: letters, digits and ._+- alone, at most 100 bytes, its last ones.

    The end tells the format, and the phase as in NAME_ED.nii.gz.

    >>> clean("a b:c_ED.nii.gz"), clean("..hidden")
    ('a_b_c_ED.nii.gz', 'hidden')
    """
    kept = (sign if unicodedata.category(sign)[0] in "LMN" or sign in "._+-" else "_" for sign in nfc(name))
    return "".join(kept).encode()[-LONGEST:].decode(errors="ignore").lstrip(".") or "_"


class Places:
    """Gives every file its own place below a folder, in folders named like those that it was sent from."""

    def __init__(self, folder: Path) -> None:
        self._folders: dict[tuple[str, ...], Path] = {(): folder}
        self._taken: set[str] = set()

    def find(self, sent: str) -> Path | None:
        """Returns where to write a file that was sent under a name, which may be a path of any system.

        None for a hidden file, which is no scan, and for one without a name. The folder is made.
        """
        parts = [part for part in re.split(r"[/\\]", sent) if part not in ("", ".", "..")]
        if not parts or any(part.startswith(".") or part == MAC for part in parts):
            return None
        folder = self._folder(tuple(parts[:-1][-DEEPEST:]))
        folder.mkdir(parents=True, exist_ok=True)
        return self._free(folder, parts[-1])

    def _folder(self, parts: tuple[str, ...]) -> Path:
        if parts not in self._folders:
            self._folders[parts] = self._free(self._folder(parts[:-1]), parts[-1])
        return self._folders[parts]

    def _free(self, folder: Path, name: str) -> Path:
        """Returns a path that nothing else has, also where case does not count, and takes it."""
        path, number = folder / clean(name), 1
        while str(path).casefold() in self._taken:
            number += 1
            path = folder / f"{number}_{clean(name)}"
        self._taken.add(str(path).casefold())
        return path
