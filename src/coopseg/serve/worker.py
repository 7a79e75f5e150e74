"""Runs predictions in a process of its own: it can be ended at any moment, and its memory is its own."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from coopseg.errors import CoopsegError, PartlyDone

log = logging.getLogger(__name__)
ENDED = "the process that segments has ended, perhaps for want of memory; send fewer or smaller scans"
BUG = "an error in the program, of which its log names the place"
Tell = Callable[[int, int], None]  # called with the number of scans that are done, and of all


@dataclass(frozen=True)
class How:
    """Says with what and how scans are segmented; see `coopseg.predict`."""

    model: Path
    device: str = "auto"
    refinements: int = 1
    trust: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """Says what was loaded: the names of the structures, and the device."""

    structures: tuple[str, ...]
    device: str


class Said(NamedTuple):
    """Holds what is said of scans. line: names those that could not be segmented, "" if all were."""

    line: str = ""
    warnings: tuple[str, ...] = ()


class Worker:
    """Has one process that segments what it is given, and starts another if that has ended."""

    def __init__(self, how: How) -> None:
        self.how = how
        self._lock, self._closed = Lock(), False  # the lock: a process is started, or ended, but not both
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def start(self) -> Ready:
        """Start the process. Raises CoopsegError, as `load_predictor` does, if the model cannot be used."""
        with self._lock:
            if self._closed:
                raise CoopsegError(ENDED)
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_begin, args=(theirs, self.how), daemon=True)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for us alone
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        kind, content = self._receive()
        if kind == "ready":
            return Ready(*content)
        raise CoopsegError(content.line)

    def run(self, scans: Path, out: Path, tell: Tell) -> Said:
        """Segment what lies in a folder, with pages; returns what to show with them.

        Raises CoopsegError if nothing could be segmented, and if the process ended or was stopped.
        """
        if self._process is None or not self._process.is_alive():
            self.start()
        assert self._connection
        try:
            self._connection.send((scans, out))
        except OSError:
            raise CoopsegError(ENDED) from None
        while True:
            kind, content = self._receive()
            if kind == "progress":
                tell(*content)
            elif kind == "done":
                return Said(*content)
            else:
                raise CoopsegError(content.line)

    def stop(self, *, close: bool = False) -> None:
        """End the process at once. close: also start no other."""
        with self._lock:
            self._closed |= close
            if self._process:
                self._process.kill()
                self._process.join()

    def _receive(self) -> tuple[str, Any]:
        assert self._connection
        try:
            kind, content = self._connection.recv()
        except (EOFError, OSError):
            raise CoopsegError(ENDED) from None
        return kind, content


def _begin(connection: Connection, how: How) -> None:
    logging.getLogger("coopseg").setLevel(logging.ERROR)  # what is less than that may name a patient
    attend(connection, how)


def attend(connection: Connection, how: How) -> None:
    """Load the model, then segment folder after folder until the connection ends."""
    from coopseg.inference.predictor import load_predictor

    try:
        model, predictor = load_predictor(
            how.model, refinements=how.refinements, device=how.device, trust=how.trust
        )
    except CoopsegError as error:
        connection.send(("failed", Said(str(error))))
        return
    connection.send(("ready", (model.names[1:], str(predictor.device))))
    while True:
        try:
            scans, out = connection.recv()
        except EOFError:
            return
        connection.send(segment(how, scans, out, lambda *done: connection.send(("progress", done))))


def segment(how: How, scans: Path, out: Path, tell: Tell) -> tuple[str, Said]:
    """Segment what lies in a folder; returns "done" or "failed", and what to say. It raises nothing.

    DICOM objects are written too, if the libraries for them are installed.
    """
    from coopseg.inference.predict import Predicted, predict
    from coopseg.pages.write import INDEX
    from coopseg.results.remarks import remark_on_scan

    line, warnings = "", list[str]()

    def note(done: Predicted) -> None:
        tell(done.number, done.total)
        if done.warnings:
            warnings.append(remark_on_scan(done.shown, done.warnings, "its page"))

    try:
        try:
            predict(
                how.model, scans, out, refinements=how.refinements, device=how.device, trust=how.trust,
                page=True, dicom=importlib.util.find_spec("highdicom") is not None, progress=note,
            )  # fmt: skip
        except PartlyDone as partly:
            index = out / INDEX
            index.write_text(without_folder(index.read_text(encoding="utf-8"), scans), encoding="utf-8")
            line = without_folder("; ".join(map(str, partly.failed)), scans)
        warnings += _remarks(out)
        return "done", Said(line, tuple(without_folder(each, scans) for each in warnings))
    except CoopsegError as error:
        return "failed", Said(without_folder(str(error), scans))
    except MemoryError:
        return "failed", Said(ENDED)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]  # its message may name a patient
        log.error("a job failed: %s at %s:%s", type(error).__name__, Path(place.filename).name, place.lineno)
        return "failed", Said(BUG)


def _remarks(out: Path) -> list[str]:
    """Returns what `coopseg predict` prints when all is done."""
    from coopseg.inference.predict import RECORD
    from coopseg.measures.write import RECORD as MEASURES
    from coopseg.results.remarks import remarks_on_measures, remarks_on_predictor

    measured = remarks_on_measures(out / MEASURES)
    warnings = remarks_on_predictor(out / RECORD).warnings + measured.warnings + measured.notes
    return [line.replace(f"; {out / RECORD} names them", "") for line in warnings]


def without_folder(text: str, folder: Path) -> str:
    """Returns a message without the folder of the service, which tells whoever sent the scans nothing."""
    return text.replace(f"{folder}/", "").replace(str(folder), "what was sent")
