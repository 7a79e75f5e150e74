"""A verb that is killed half-way goes on by --resume, and ends in what it would have made at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg.scans.journal import JOURNAL

TINY = ("--preset=quick", "--device=cpu", "--set=cases.size=[32,32]", "--set=cases.spacing=8")
SMALL = ("--set=network.width=2", "--set=training.steps=1")


def kill_half_way(words: list[Any], out: Path) -> None:
    """Kills the program once it has noted something as done."""
    command = [sys.executable, "-m", "coopseg", *map(str, words), "--out", str(out)]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        for _ in range(6000):
            if (out / JOURNAL).is_file() and (out / JOURNAL).read_bytes().count(b"\n") > 1:
                break
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)


def contents(folder: Path) -> dict[str, bytes]:
    """What was made, without the record of times and the order in which it was done."""
    found = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {
        name: file.read_bytes() for name, file in found.items()
        if file.name not in (JOURNAL, "evaluation.json", "cases.csv", "metrics.json") and ".lock" not in name
    }  # fmt: skip


@pytest.mark.slow
def test_evaluate_and_corrupt(coopseg: Callable[..., Any], phantom: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert coopseg("train", "--data", phantom["acdc"], "--out", run, *TINY, *SMALL).exit_code == 0
    verbs = {
        "corrupt": ["corrupt", "--data", phantom["acdc"], "--copies=2", "--workers=1"],
        "evaluate": ["evaluate", "--model", run, "--data", phantom["acdc"], "--device=cpu", "--workers=1"],
    }
    for verb, words in verbs.items():
        killed, whole = tmp_path / f"{verb}-killed", tmp_path / f"{verb}-whole"
        kill_half_way(words, killed)
        resumed = coopseg(*words, "--out", killed, "--resume")
        assert resumed.exit_code == 0, resumed.stderr
        assert "done before, not done again" in resumed.stderr
        assert coopseg(*words, "--out", whole).exit_code == 0
        assert contents(killed) == contents(whole), verb
