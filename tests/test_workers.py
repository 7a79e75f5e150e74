"""Maps over threads and processes: order, errors, and that nobody is left at work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coopseg.errors import CoopsegError
from coopseg.workers import busy_line, choose_workers, processes, threads

PARENT = """
import signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_workers import nothing, sleep
from coopseg.cli.main import _terminate
from coopseg.workers import processes

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    with processes(2, begin=nothing) as side_by_side:
        list(side_by_side(sleep, [Path({out!r})] * 2, [2, 0]))
"""


def nothing() -> None:
    """There is nothing to begin with."""


def square(number: int) -> int:
    time.sleep(0.02 * (number % 2))
    return number**2


def threads_of_torch(_: int) -> int:
    import torch  # takes seconds, and every worker here imports this module

    return torch.get_num_threads()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise CoopsegError("three: is not wanted; leave it out")
    time.sleep(0.02)
    return number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep(out: Path, seconds: float) -> None:
    (out / str(os.getpid())).touch()
    time.sleep(seconds)


def test_choose_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    assert choose_workers(None, volumes=100) == 3
    assert choose_workers(5, volumes=100) == 5
    assert choose_workers(5, volumes=2) == 2
    assert choose_workers(None, volumes=0) == 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert choose_workers(None, volumes=100) == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert choose_workers(None, volumes=100) == 1
    with pytest.raises(CoopsegError, match="workers must be 1 or more, found 0"):
        choose_workers(0, volumes=3)


def test_processes() -> None:
    with processes(2, begin=nothing) as side_by_side:
        assert list(side_by_side(square, range(20))) == [number**2 for number in range(20)]
        assert set(side_by_side(threads_of_torch, range(4))) == {1}
        with pytest.raises(CoopsegError, match="three: is not wanted; leave it out"):
            list(side_by_side(fail_at_three, range(1000)))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 3])
def test_threads(workers: int) -> None:
    before, running = threads_of_torch(0), threading.active_count()
    with threads(workers) as side_by_side:
        assert list(side_by_side(square, range(20))) == [number**2 for number in range(20)]
        assert set(side_by_side(threads_of_torch, range(4))) == {1}
        with pytest.raises(CoopsegError, match="three: is not wanted"):
            list(side_by_side(fail_at_three, range(1000)))
    assert (threads_of_torch(0), threading.active_count()) == (before, running)


def test_what_has_not_begun_is_dropped() -> None:
    begun: list[int] = []

    def slowly(number: int) -> int:
        begun.append(number)
        time.sleep(0.05)
        return number

    def stop(side_by_side: Callable[..., Any]) -> None:
        for _ in side_by_side(slowly, range(1000)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), threads(2) as side_by_side:
        stop(side_by_side)
    count = len(begun)
    assert count < 10
    time.sleep(0.1)
    assert len(begun) == count


def test_a_killed_worker() -> None:
    with (
        pytest.raises(CoopsegError, match=r"one of 2 worker processes was killed, .* use fewer workers"),
        processes(2, begin=nothing) as side_by_side,
    ):
        list(side_by_side(die, range(20)))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_worker_outlives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    out = tmp_path / "pids"
    out.mkdir()
    script.write_text(PARENT.format(folder=str(Path(__file__).parent), out=str(out)))
    parent = subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    _wait_until(lambda: len(list(out.iterdir())) == 2)
    time.sleep(0.2)  # one worker is at work, the other waits for some
    if number == signal.SIGINT:  # a terminal sends Ctrl-C to all processes of the command
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    _, error = parent.communicate(timeout=20)
    assert parent.returncode == {signal.SIGTERM: 128 + number}.get(number, -number)
    workers = [Path("/proc") / entry.name for entry in out.iterdir()]
    _wait_until(lambda: not any(worker.exists() for worker in workers))
    assert error.count("Traceback") == (number == signal.SIGINT)  # the parent's alone


def _wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_script_that_workers_would_run_again(tmp_path: Path) -> None:
    """Each worker imports the script first; without a guard it would start workers of its own there."""
    call = 'with processes(2) as side_by_side:\n    print("sum", sum(side_by_side(abs, [1, -2])))\n'
    bare, guarded = tmp_path / "bare.py", tmp_path / "guarded.py"
    bare.write_text(f"from coopseg.workers import processes\n{call}")
    guarded.write_text(
        "from coopseg.workers import processes\nif __name__ == '__main__':\n    "
        + call.replace("\n    ", "\n        ")
    )
    done = {
        script: subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
        for script in (bare, guarded)
    }
    assert (done[guarded].returncode, done[guarded].stdout) == (0, "sum 3\n")
    assert done[bare].returncode == 1
    assert done[bare].stderr.count("Traceback") == 1  # that of the script, none of its workers
    assert 'put what it does under `if __name__ == "__main__":`' in done[bare].stderr


@pytest.mark.parametrize(
    ("load", "threads", "said"), [(0.3, 2, False), (3.8, 2, True), (3.8, 1, False), (1.0, 2, True)]
)
def test_a_busy_machine_is_spoken_of(
    monkeypatch: pytest.MonkeyPatch, load: float, threads: int, said: bool
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0, 0))
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr("coopseg.workers.cores", lambda: 2)
    assert busy_line().startswith(f"other programs keep this machine busy (load {load} on 2 cores)") == said
