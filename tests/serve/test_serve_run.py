"""`coopseg serve` as a program: it says where it is, and leaves nothing however it ends."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import started

from coopseg.serve.worker import Ready

pytest.importorskip("python_multipart")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM\n"),
        pytest.param(signal.SIGINT, 130, "interrupted\n", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 143, "stopped by SIGTERM\n", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_left(
    number: signal.Signals, code: int, line: str, model: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    file = next((phantom["mnms"]).rglob("*_sa.nii.gz"))
    with started(model, tmp_path / "tmp") as (process, service):
        first, second = (service.send(("smith.nii.gz", file.read_bytes())).json["id"] for _ in range(2))
        said = service.wait(first, "done", "failed")
        assert (said["state"], said["page"], said["line"]) == ("done", "smith.html", "")
        assert "<canvas" in service.ask("GET", f"/jobs/{first}/pages/smith.html").text
        service.wait(second, "running", "done")
        assert [path.name.startswith("coopseg-") for path in (tmp_path / "tmp").iterdir()] == [True]
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", line)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_cannot_be_served_is_one_line(
    coopseg: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = coopseg("serve", "--model", tmp_path / "none")
    assert done.exit_code == 2
    line = "does not exist; --model takes the folder given to `coopseg train --out`"
    assert done.stderr == f"error: {tmp_path / 'none'}: {line}\n"
    monkeypatch.setattr("coopseg.serve.worker.Worker.start", lambda _: Ready(("LV",), "cpu"))
    done = coopseg("serve", "--model", model, "--host", "nowhere.invalid", "--device", "cpu")
    assert done.exit_code == 2
    assert re.fullmatch(r"error: nowhere\.invalid:8000 cannot be opened \(.*\); choose .*\n", done.stderr)


def test_what_is_not_installed_is_said(
    coopseg: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("coopseg.serve.", "starlette."))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("starlette", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
        done = coopseg("serve", "--model", model)
        assert done.exit_code == 2
        assert re.fullmatch(rf'error: serving needs {name}.*; pip install "coopseg\[serve\]"\n', done.stderr)


def test_a_warning_where_others_can_reach_it(
    coopseg: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coopseg.serve.worker.Worker.start", lambda _: Ready(("LV",), "cpu"))
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    done = coopseg("serve", "--model", model, "--host", "0.0.0.0", "--port", "0", "--device", "cpu")
    assert done.exit_code == 0
    assert re.match(r"warning: whoever reaches port \d+ of this machine can use the service", done.stderr)
    for host in ("127.0.0.1", "localhost"):
        done = coopseg("serve", "--model", model, "--host", host, "--port", "0")
        assert (done.exit_code, done.stderr) == (0, "")
        assert re.match(rf"open http://{host}:\d+ ", done.stdout)
