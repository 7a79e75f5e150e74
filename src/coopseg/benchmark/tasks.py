"""A process of this package that works for a benchmark, and all of those that run here now."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from coopseg.errors import CoopsegError


@dataclass(frozen=True)
class Task:
    """python -m MODULE BENCH ARGUMENT, with all that it prints appended to `log`.

    home: the folder to run in, where there is one of this name: modules of the user's are found there.
    """

    module: str
    bench: Path
    argument: str
    log: Path
    home: Path

    @property
    def command(self) -> list[str]:
        """What is run."""
        return [sys.executable, "-m", self.module, str(self.bench), self.argument]


@dataclass
class Processes:
    """Runs tasks, from any thread, until it is told to stop."""

    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def run(self, task: Task, threads: int) -> int:
        """Run a task to its end; its exit code, negative after a signal. threads: of OpenMP."""
        if not task.bench.is_dir():
            raise CoopsegError(
                f"{task.bench}: not seen by this worker; put it on a disk that all of them share"
            )
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with open(task.log, "ab") as log:
            process = self._start(task, threads, log.fileno())
            if process is None:
                return -signal.SIGTERM
            try:
                return process.wait()
            finally:
                self.running.discard(process)
                if process.stdin:
                    process.stdin.close()

    def stop(self) -> None:
        """Have every process save what it needs to go on, and end; none is started any more."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()

    def _start(self, task: Task, threads: int, log: int) -> subprocess.Popen[bytes] | None:
        with self.lock:
            if self.stopped:
                return None
            process = subprocess.Popen(
                task.command,
                cwd=task.home if task.home.is_dir() else None,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.PIPE,  # held open: see tethered.py
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal reaches us alone; we tell them
            )
            self.running.add(process)
            return process
