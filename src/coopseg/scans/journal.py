"""Lists what a command has done in its output folder, so that it can go on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from coopseg.errors import CoopsegError
from coopseg.scans.files import check_new, clear_temporary, is_file, locked, make_folder, naming
from coopseg.scans.types import Dataset, ScanRef
from coopseg.text import counted, one_line, parse_json, shorten

JOURNAL = "done.jsonl"
Content = TypeVar("Content")
Volume = tuple[Dataset, ScanRef]


class Entry(BaseModel, extra="forbid"):
    """Describes one thing that is done: a line of the journal.

    depends: what it was made from, such as size and time of a scan's file. files: the SHA-256 of each file
    that was written, by its path in the output folder. content: what the command wants to know of it.
    """

    key: str
    depends: Any
    files: dict[str, str]
    content: Any


class Journal(Generic[Content]):
    """Lists what is done in an output folder, a line each as it is done; see `open_journal`."""

    def __init__(self, out: Path, file: FileIO, kind: type[Content], facts: Mapping[str, Any]) -> None:
        """Reads what an earlier command has done, with the same `facts`."""
        self.out, self.file, self.kind = out, file, TypeAdapter(kind)
        self.earlier: dict[str, Entry] = {}
        self.skipped = self.added = 0
        whole, _, _ = file.read().rpartition(b"\n")
        lines = whole.split(b"\n") if whole else []
        if lines:
            self._check(_read(lines[0]), facts)
            self.earlier = {entry.key: entry for line in lines[1:] if (entry := _read_entry(line))}
        file.truncate(len(whole) + 1 if whole else 0)  # without a line that a power cut has torn
        file.seek(0, 2)
        if not lines:
            self._write(facts)

    def _check(self, before: Any, facts: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(facts))
        if not isinstance(before, dict):
            raise CoopsegError(f"{self.out / JOURNAL}: cannot be read; choose another --out")
        for key in now:
            if before.get(key) != now[key]:
                raise CoopsegError(
                    f"{self.out}: holds results of a command with {key} = {shorten(before.get(key))}, this "
                    f"one has {key} = {shorten(now[key])}; give the same options, or choose another --out"
                )

    def find(self, key: str, depends: object) -> Content | None:
        """Returns what an earlier command noted under `key`; None if it has to be done, perhaps again.

        That is so if it was made from something else than `depends`, or if one of its files is not whole.
        """
        entry = self.earlier.get(key)
        if entry is None or entry.depends != json.loads(json.dumps(depends)):
            return None
        try:
            content = self.kind.validate_python(entry.content)
        except ValidationError:
            return None
        if any(_digest(self.out / name) != sha256 for name, sha256 in entry.files.items()):
            return None
        self.skipped += 1
        return content

    def add(self, key: str, depends: object, content: Content, files: Sequence[Path] = ()) -> None:
        """Notes what is done, under `key`. files: what was written for it, below the output folder."""
        hashes = {str(file.relative_to(self.out)): _digest(file) for file in files}
        plain = self.kind.dump_python(content, mode="json")
        self._write({"key": key, "depends": depends, "files": hashes, "content": plain})
        self.added += 1

    def describe_skipped(self, what: str) -> str:
        """Says how many of `what`, such as "scan", an earlier command had done; "" if there is none."""
        return f"{counted(self.skipped, what)} done before, not done again" if self.skipped else ""

    def _write(self, line: Mapping[str, Any]) -> None:
        with naming(self.out / JOURNAL):
            self.file.write((json.dumps(line, allow_nan=False) + "\n").encode())


@contextmanager
def open_journal(
    out: Path, kind: type[Content], facts: Mapping[str, Any], *, resume: bool
) -> Iterator[Journal[Content]]:
    """Yields the journal of an output folder, which is made where it is missing.

    kind: of what is noted. facts: all that every result depends on, in types that JSON has. With `resume`
    the folder may hold what a command with the same facts has left. If the block raises before anything is
    done, the folder is as it was before; otherwise what is done stays.
    Raises CoopsegError as `check_free` does, for other facts, and if another process goes on there.
    """
    check_free(out, resume=resume)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    make_folder(out, out)
    path = out / JOURNAL
    earlier = path.exists()
    journal = None
    with locked(out) if earlier else nullcontext(), FileIO(path, "r+" if earlier else "x+") as file:
        try:
            if earlier:
                clear_temporary(out)
            journal = Journal(out, file, kind, facts)
            yield journal
        except BaseException:
            if not earlier and not (journal and journal.added):
                _clear(out, made)
            raise


def each_once(
    journal: Journal[Content] | None,
    volumes: Sequence[Volume],
    work: Callable[[Sequence[Volume]], Iterator[Content | CoopsegError]],
    files: Callable[[Content], Sequence[Path]] = lambda _: (),
) -> Iterator[tuple[Volume, Content | CoopsegError]]:
    """Yields each volume with what is made of it, or was by an earlier command, or with its error.

    work: called with the volumes that are not done yet. files: which were written for one volume.
    """
    keys = [_key(*volume) for volume in volumes]
    kept = [journal.find(*key) if journal else None for key in keys]
    found = work([volume for volume, before in zip(volumes, kept, strict=True) if before is None])
    for volume, key, before in zip(volumes, keys, kept, strict=True):
        content = next(found) if before is None else before
        if journal and before is None and not isinstance(content, CoopsegError):
            journal.add(*key, content, files(content))
        yield volume, content


def volume_name(dataset: Dataset, ref: ScanRef) -> str:
    """Names a volume among those of several data sets."""
    return f"{dataset.name}, {ref.id}"


def _key(dataset: Dataset, ref: ScanRef) -> tuple[str, list[Any]]:
    """Returns the name of a volume in the journal, and what all that is made of it depends on."""
    read = [file for file in (*ref.images, ref.label) if file]
    files = [os.path.abspath(file) for file in read]
    facts = [ref.patient, ref.session, ref.phase, ref.site, ref.copy, ref.frame, ref.normalised]
    return volume_name(dataset, ref), [files, stamp(*read), facts, asdict(dataset.labels)]


def check_free(out: Path, *, resume: bool) -> None:
    """Raise CoopsegError if `out` holds anything, with `resume` anything that is not to be gone on with."""
    if not is_file(out / JOURNAL):
        check_new(out)
    elif not resume:
        raise CoopsegError(
            f"{out}: exists and is not an empty folder; choose another --out, or go on in it by --resume"
        )


def stamp(*files: Path | None) -> list[list[int]]:
    """Returns size and time of files, which change when a file does; nothing for one that is not there."""
    return [_stamp(file) for file in files if file]


def _stamp(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() if is_file(file) else ""
    except OSError as error:
        raise CoopsegError(f"{file}: cannot be read ({one_line(error)}); check its rights") from None


def _read(line: bytes) -> Any:
    try:
        return parse_json(line.decode())
    except ValueError:
        return None


def _read_entry(line: bytes) -> Entry | None:
    try:
        return Entry.model_validate(_read(line))
    except ValidationError:  # torn by a power cut: it is done again
        return None


def _clear(out: Path, made: Sequence[Path]) -> None:
    """Removes all that was written into a folder that was empty, and the folders that were made for it."""
    for entry in out.iterdir():
        remove: Callable[[Path], object] = shutil.rmtree if entry.is_dir() else Path.unlink
        remove(entry)
    for folder in made:
        folder.rmdir()
