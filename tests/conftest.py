"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import SWITCHES

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

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
def coopseg() -> Iterator[Callable[..., Any]]:
    """Runs the program in this process; the result has exit_code, stdout and stderr.

    A machine that other programs keep busy is not spoken of.
    """
    from typer.testing import CliRunner

    from coopseg.cli.main import app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coopseg.workers.busy_line", lambda: "")
        yield lambda *words: CliRunner().invoke(app, [str(word) for word in words])


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


SEEING = """
import numpy as np

def look(image, spacing):  # the intensities of the classes are known: 0, 300, 600, 900 and 40 of noise
    return np.digitize(image, (150, 450, 750))

def standardise(image, spacing):  # as most frameworks begin
    z = (image - image.mean()) / image.std()
    return np.digitize(z, [(level - MEAN) / STD for level in (150, 450, 750)])

MEAN, STD = MEAN_STD
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of four patients whose classes two functions of module `seeing` tell by intensity alone.

    All scans hold the same values in other places, oblique, as int16; label values are 10, 20 and 30.
    """
    import nibabel
    import numpy as np

    folder, generator = tmp_path / "seen", np.random.default_rng(0)
    values = np.zeros((24, 26, 4), np.int16)
    values[6:18, 6:18], values[8:16, 8:16], values[10:14, 10:14] = 30, 20, 10
    noise = generator.integers(-40, 41, values.shape)
    image = np.asarray(values // 10 * 300 + noise, np.int16)
    affine = np.diag([-1.5, -1.5, 9.0, 1.0])
    affine[:3, :3] = np.linalg.qr(generator.normal(size=(3, 3)))[0] @ affine[:3, :3]
    for number in range(4):
        for part, data in (("images", image), ("labels", values)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            rolled = np.roll(data, number, axis=0)
            nibabel.save(nibabel.Nifti1Image(rolled, affine), folder / part / f"p{number}_ED.nii.gz")
    (folder / "dataset.json").write_text(
        json.dumps({"name": "seen", "labels": {"RV": 10, "MYO": 20, "LV": 30}})
    )
    (tmp_path / "code").mkdir()
    text = SEEING.replace("MEAN_STD", f"{float(image.mean())}, {float(image.std())}")
    (tmp_path / "code" / "seeing.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "code")
    sys.modules.pop("seeing", None)
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[BrowserContext]:
    """Debian's Chromium with a new profile, or skip; COOPSEG_NEEDS_BROWSER=1 makes its absence a failure."""
    chromium = shutil.which("chromium")
    missing = [
        name for name, there in (("chromium", chromium), ("playwright", find_spec("playwright"))) if not there
    ]
    if missing:
        assert not os.environ.get("COOPSEG_NEEDS_BROWSER"), f"not installed: {missing}"
        pytest.skip(f"not installed: {missing}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium, args=SWITCHES
        )
        yield context
        context.close()
