"""Asks the service by plain HTTP, and stands in for the process that segments."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coopseg.errors import CoopsegError
from coopseg.serve.worker import Said

BOUNDARY = "a-line-between"
MARKED = {"X-Coopseg": "1"}


def as_form(*files: tuple[str, bytes]) -> bytes:
    """A body of multipart/form-data as a browser makes it, of (file name, content)."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


FORM = f"multipart/form-data; boundary={BOUNDARY}"


def eventually(true: Callable[[], bool]) -> None:
    """Waits until something is true."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@dataclass
class Answer:
    """What the service said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Asking:
    """Asks a service on this machine."""

    port: int

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        found = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        connection.close()
        return found

    def send(self, *files: tuple[str, bytes], **headers: str) -> Answer:
        return self.ask("POST", "/jobs", as_form(*files), {"Content-Type": FORM} | MARKED | headers)

    def wait(self, job: str, *states: str) -> Any:
        """Waits until a job is in one of the states."""
        eventually(lambda: self.ask("GET", f"/jobs/{job}").json["state"] in states)
        return self.ask("GET", f"/jobs/{job}").json


class Toy:
    """Gives each file a page and a label map; waits while `gate` is closed, as a long prediction would.

    It warns of files called odd, and makes a DICOM object of those called study.
    """

    def __init__(self) -> None:
        self.gate, self.running, self.stopped = threading.Event(), threading.Event(), threading.Event()
        self.gate.set()
        self.seen: list[list[str]] = []

    def run(self, scans: Path, out: Path, tell: Callable[[int, int], None]) -> Said:
        files = sorted(path for path in scans.rglob("*") if path.is_file())
        self.seen.append([path.relative_to(scans).as_posix() for path in files])
        self.stopped.clear()
        self.running.set()
        while not self.gate.wait(0.005):
            if self.stopped.is_set():
                raise CoopsegError("stopped")
        out.mkdir()
        for number, path in enumerate(files, start=1):
            if "damaged" in path.name:
                raise CoopsegError(f"{path.name}: damaged gzip file; copy it again")
            if "bug" in path.name:
                raise KeyError(path.name)
            (out / path.name).write_bytes(b"labels of " + path.read_bytes())
            (out / f"{path.name.split('.')[0]}.html").write_text("<title>a page</title>")
            if "study" in path.name:
                (out / "dicom").mkdir(exist_ok=True)
                (out / "dicom" / f"{path.name}_seg.dcm").write_bytes(b"segments")
            tell(number, len(files))
        for name in ("index.html", "labels.json", "measures.csv", "predict.json"):
            (out / name).write_text("{}")
        return Said("", tuple(f"{path.name}: LV in 2 pieces" for path in files if "odd" in path.name))

    def stop(self, *, close: bool = False) -> None:
        self.stopped.set()


@contextmanager
def started(model: Path, temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Asking]]:
    """The program on a free port, with its temporary folder, and how to ask it."""
    temporary.mkdir()
    command = [
        sys.executable,
        "-m",
        "coopseg",
        "serve",
        "--model",
        str(model),
        "--port",
        "0",
        "--device",
        "cpu",
    ]
    env = os.environ | {"TMPDIR": str(temporary)}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--port", "0"], env=env, **pipes) as process:
        assert process.stdout
        line = process.stdout.readline()
        found = re.fullmatch(r"open http://127\.0\.0\.1:(\d+) \(Ctrl-C ends .*\)\n", line)
        if not found:
            process.kill()
            raise AssertionError(process.communicate())
        try:
            yield process, Asking(int(found[1]))
        finally:
            process.kill()
