"""Keeps the jobs of the service: one after another is worked on, and all that they left is removed."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from coopseg.errors import CoopsegError
from coopseg.measures.write import TABLE
from coopseg.pages.write import INDEX
from coopseg.serve.places import Refused
from coopseg.serve.worker import BUG, Said, Tell
from coopseg.text import Json

log = logging.getLogger(__name__)
MOST_WAITING = 20  # jobs that wait or are being sent
LOOK = 5.0  # seconds between two looks for jobs whose time is up
RECORDS = ("predict.json", "done.jsonl", ".lock")  # which tell of the folders of the service, not of scans
LABELS, OBJECTS = "label-maps.zip", "dicom.zip"
GONE = "there is no such job; it may have been removed, send the scans again"


class Runs(Protocol):
    """Segments folders; see `Worker`."""

    def run(self, scans: Path, out: Path, tell: Tell) -> Said:
        """Segment a folder."""

    def stop(self, *, close: bool = False) -> None:
        """End what runs."""


@dataclass
class Job:
    """Holds what is known of a job. segmented: how many of its `total` scans. said: once it has ended.

    ended: by time.monotonic.
    """

    id: str
    folder: Path
    state: Literal["sending", "waiting", "running", "done", "failed"] = "sending"
    segmented: int = 0
    total: int = 0
    said: Said = field(default_factory=Said)
    ended: float = 0.0

    @property
    def scans(self) -> Path:
        """Returns where the scans lie as they were sent, until the job has ended."""
        return self.folder / "scans"

    @property
    def out(self) -> Path:
        """Returns where its results are written."""
        return self.folder / "out"

    @property
    def files(self) -> dict[str, Path]:
        """Returns the files to download by their addresses below the job's; none before it is done."""
        places = {
            "labels": self.folder / LABELS,
            "measures": self.out / TABLE,
            "dicom": self.folder / OBJECTS,
        }
        done = self.state == "done"
        return {name: path for name, path in places.items() if done and path.is_file()}

    @property
    def pages(self) -> dict[str, Path]:
        """Returns the pages by their addresses below the job's."""
        return {path.relative_to(self.out).as_posix(): path for path in sorted(self.out.rglob("*.html"))}


class Jobs:
    """Has a thread that works on jobs in order, and one that removes them `keep` seconds after their end."""

    def __init__(self, folder: Path, worker: Runs, *, keep: float) -> None:
        self.folder, self.worker, self.keep = folder, worker, keep
        self._jobs: dict[str, Job] = {}  # those that wait are in order
        self._changed, self._closed = threading.Condition(), threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._work, self._clear)]
        for thread in self._threads:
            thread.start()

    def begin(self) -> Job:
        """Returns a job with an empty folder, to which scans can be sent. Raises Refused if many wait."""
        with self._changed:
            if sum(job.state in ("sending", "waiting") for job in self._jobs.values()) >= MOST_WAITING:
                raise Refused(503, f"{MOST_WAITING} jobs wait already; try again in some minutes")
            job = Job(secrets.token_urlsafe(), self.folder / secrets.token_hex(8))
            job.scans.mkdir(parents=True)
            self._jobs[job.id] = job
            return job

    def enqueue(self, job: Job) -> None:
        """Have a job wait for its turn, behind all others that do."""
        with self._changed:
            self._jobs[job.id] = self._jobs.pop(job.id)
            job.state = "waiting"
            self._changed.notify()

    def find(self, name: str) -> Job:
        """Returns the job of an id. Raises Refused if there is none."""
        with self._changed:
            if name not in self._jobs:
                raise Refused(404, GONE)
            return self._jobs[name]

    def describe(self, job: Job) -> Json:
        """Returns what is shown of a job. page: the address of its page, or of the list, below the job's."""
        with self._changed:
            said: Json = {"state": job.state, "line": job.said.line}
            said |= {"segmented": job.segmented, "total": job.total}
            if job.state == "waiting":
                said["place"] = 1 + [each.id for each in self._waiting()].index(job.id)
            if job.state in ("done", "failed"):
                said["seconds_left"] = max(0, round(job.ended + self.keep - time.monotonic()))
            if job.state == "done":
                patients = [page for page in job.pages if page != INDEX]
                said |= {"page": patients[0] if len(patients) == 1 else INDEX, "patients": len(patients)}
                said |= {"files": list(job.files), "warnings": job.said.warnings}
            return said

    def remove(self, job: Job) -> None:
        """Remove a job and all that it left; one that is being worked on is stopped."""
        with self._changed:
            known = self._jobs.pop(job.id, None) is not None
            running = job.state == "running"
            if known and running:
                self.worker.stop()  # before the thread can go on with the next; it removes the folder
        if not running:
            shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Stop all work, and remove all that there is."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self.worker.stop(close=True)
        for thread in self._threads:
            thread.join()
        for job in list(self._jobs.values()):
            self.remove(job)

    def sweep(self) -> None:
        """Remove the jobs whose time is up."""
        with self._changed:
            now = time.monotonic()
            over = [job for job in self._jobs.values() if job.ended and now - job.ended >= self.keep]
        for job in over:
            self.remove(job)

    def _waiting(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == "waiting"]

    def _clear(self) -> None:
        while not self._closed.wait(min(LOOK, self.keep)):
            self.sweep()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed.is_set() or self._waiting())
                if self._closed.is_set():
                    return
                job = self._waiting()[0]
                job.state = "running"
            state, said = _attempt(partial(self._segment, job))
            shutil.rmtree(job.scans, ignore_errors=True)  # no longer needed
            with self._changed:
                if job.id in self._jobs:
                    job.state, job.said, job.ended = state, said, time.monotonic()
                    continue
            shutil.rmtree(job.folder, ignore_errors=True)  # it was removed meanwhile

    def _segment(self, job: Job) -> Said:
        def tell(segmented: int, total: int) -> None:
            job.segmented, job.total = segmented, total

        said = self.worker.run(job.scans, job.out, tell)
        pack_results(job.out, job.folder)
        return said


def _attempt(segment: Callable[[], Said]) -> tuple[Literal["done", "failed"], Said]:
    try:
        return "done", segment()
    except CoopsegError as error:
        return "failed", Said(str(error))
    except OSError as error:
        return "failed", Said(
            f"the disk of the service cannot be written ({error.strerror}); tell who runs it"
        )
    except Exception as error:
        log.error("a job failed: %s", type(error).__name__)
        return "failed", Said(BUG)


def pack_results(out: Path, folder: Path) -> None:
    """Pack what lies below `out` into zip files: label maps with what names their values, and DICOM objects.

    There is no second file if there are no such objects.
    """
    made = [path for path in sorted(out.rglob("*")) if path.is_file()]
    objects = [path for path in made if path.suffix == ".dcm"]
    maps = [path for path in made if path.suffix not in (".dcm", ".html") and path.name not in RECORDS]
    _pack(folder / LABELS, maps, out, zipfile.ZIP_STORED)  # they are compressed already
    if objects:
        _pack(folder / OBJECTS, objects, out, zipfile.ZIP_DEFLATED)


def _pack(file: Path, paths: Sequence[Path], below: Path, method: int) -> None:
    with zipfile.ZipFile(file, "w", method) as packed:
        for path in paths:
            packed.write(path, path.relative_to(below))
