"""A training that is killed, in processes of its own; used by test_resume.py.

It runs in children of a fork server, which has imported everything, built the kernels and run nothing, so
that fifty of them take a minute and none inherits a thread.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from coopseg.cases.splits import REQUEST
from coopseg.scans import files
from coopseg.training.run import resume, train

SETTINGS = {
    "network.width": 2, "cases.size": (32, 32), "cases.spacing": 6.0, "training.batch_size": 4,
    "training.steps": 12, "training.validations": 3, "training.ema": 0.9, "training.schedule": "one_cycle",
}  # fmt: skip
WRITES = ("half written", "before fsync", "before replace", "after replace")


class HalfFile:
    """Writes half of what it is given, and kills."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> HalfFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


class KillingOs:
    """The `os` of `write_atomically`, which dies in one of its calls."""

    def __init__(self, moment: str, checkpoints: int) -> None:
        self.moment, self.left = moment, checkpoints

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def dies(self, moment: str) -> bool:
        """Count down on the moment that was asked for."""
        self.left -= moment == self.moment
        return self.left == 0

    def open_file(self, path: Path, mode: str) -> Any:
        """Stands in for `open`."""
        file = open(path, mode)  # noqa: SIM115
        return HalfFile(file) if "checkpoint" in path.name and self.dies("half written") else file

    def fsync(self, descriptor: int) -> None:
        """Dies before a file is on the disk."""
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if "checkpoint" in name and self.dies("before fsync"):
            os.kill(os.getpid(), signal.SIGKILL)
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Dies before or after the new file takes the place of the old one."""
        counts = "checkpoint" in str(target)
        if counts and self.dies("before replace"):
            os.kill(os.getpid(), signal.SIGKILL)
        os.replace(source, target)
        if counts and self.dies("after replace"):
            os.kill(os.getpid(), signal.SIGKILL)


def work(data: Path, run: Path, dies: tuple[str, int] | None) -> None:
    """Begin the training or go on with it; dies: in which write of a checkpoint, and in the how manieth."""
    torch.set_num_threads(1)
    if dies:
        killing = KillingOs(*dies)
        files.os = killing  # type: ignore[assignment,attr-defined]
        files.open = killing.open_file  # type: ignore[attr-defined]
    if (run / REQUEST).is_file():
        resume(run, save_every=0)
    else:
        train(
            data,
            run,
            preset="cpu",
            method="cooperative",
            settings=SETTINGS,
            seed=3,
            device="cpu",
            save_every=0,
        )


def start(data: Path, run: Path, dies: tuple[str, int] | None = None) -> BaseProcess:
    """A process that does `work`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["built_kernels"])
    process = context.Process(target=work, args=(data, run, dies))
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # where the server finds built_kernels
        process.start()
    return process


def kill_after(process: BaseProcess, seconds: float) -> int:
    """Let it run, kill it with SIGKILL; its exit code, -9 unless it ended before."""
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def finish(data: Path, run: Path) -> float:
    """Train to the end, undisturbed; the seconds it took."""
    begun = time.monotonic()
    process = start(data, run)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - begun
