"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parent / "golden"

# A program that a script starts with & ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with acdc/ and mnms/, or skip: the scans' terms forbid shipping them."""
    folder = Path(os.environ.get("COOPSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "acdc").is_dir():
        pytest.skip("real scans not found; set COOPSEG_DATA to a folder that holds acdc/ and mnms/")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden values."""
    return GOLDEN


@pytest.fixture(scope="session")
def coopseg() -> Callable[..., Any]:
    """Runs the program in this process; the result has exit_code, stdout and stderr."""
    from typer.testing import CliRunner

    from coopseg.cli.main import app

    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


HOLD = """
import sys
from pathlib import Path
from coopseg.scans.files import locked
with locked(Path(sys.argv[1])):
    print(end="held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold() -> Iterator[Callable[[Path], int]]:
    """Has another process work in a folder until the test ends; returns its id."""
    with ExitStack() as ending:

        def begin(folder: Path) -> int:
            command = [sys.executable, "-c", HOLD, str(folder)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            ending.enter_context(process)  # which closes its input, and so ends it
            assert process.stdout
            assert process.stdout.read(4) == b"held"
            return process.pid

        yield begin


def damaged(content: bytes) -> Iterator[bytes]:
    """Yields a JSON object in a hundred or so broken states: as text, and value by value two levels down."""
    yield from (b"", b"[]", b"{}", b"null", b"\x00" * 64, b"[" * 100_000, b"\xff\xfe", content + b"\x00" * 9)
    yield from (content[: len(content) * share // 8] for share in range(1, 8))
    whole = json.loads(content)
    parts = [whole, *(value for value in whole.values() if isinstance(value, dict))]
    lists = [value for value in whole.values() if isinstance(value, list) and value]
    parts += [value[0] for value in lists if isinstance(value[0], dict)]
    for part in parts:
        for key, value in list(part.items()):
            wrong: Any
            for wrong in (None, "x", -1, 10**30, math.nan, {}, [None]):
                part[key] = wrong
                yield json.dumps(whole).encode()
            del part[key]
            yield json.dumps(whole).encode()
            part[key] = value


@pytest.fixture
def refuses_damage() -> Callable[[Path, Callable[[], object]], int]:
    """Reads every damaged version of a file; used, or refused in one line that names a file there.

    Returns how many were refused.
    """
    from coopseg.errors import CoopsegError

    def check(file: Path, read: Callable[[], object]) -> int:
        content, said = file.read_bytes(), list[str]()
        for wrong in damaged(content):
            file.write_bytes(wrong)
            try:
                read()
            except CoopsegError as error:
                said.append(str(error))
        file.write_bytes(content)
        read()
        assert [line for line in said if str(file.parent) not in line or len(line.splitlines()) != 1] == []
        return len(said)

    return check


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders "acdc" and "mnms" with six made-up patients each, 96 columns or so; read-only."""
    from coopseg.phantom.write import write_phantom

    return write_phantom(tmp_path_factory.mktemp("phantom"), patients=6, seed=0, size=96)
