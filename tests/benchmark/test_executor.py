"""Both executors do the same with the same tasks; a worker that dies costs what it was at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coopseg.benchmark import executor as module
from coopseg.benchmark.executor import Ended, Executor, LocalExecutor, Task, open_executor
from coopseg.errors import CoopsegError
from coopseg.workers import cores

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def findable() -> Iterator[None]:
    """Lets processes find the module toy beside this one; the folder they run in is not searched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        )
        yield


def wait_for(ready: Callable[[], object], seconds: float = 40.0) -> None:
    """Until something is so."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a scheduler with two workers, each a process of its own, of one thread."""
    folder = tmp_path_factory.mktemp("cluster")
    found = folder / "scheduler.json"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port=0", "--no-dashboard"]
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        "--nthreads=1",
        "--no-nanny",
        "--no-dashboard",
    ]
    where = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    commands = [[*start, f"--scheduler-file={found}"], *([[*worker, f"--scheduler-file={found}"]] * 2)]
    processes = [subprocess.Popen(command, **where) for command in commands]  # type: ignore[call-overload]
    try:
        wait_for(found.is_file)
        import json

        yield json.loads(found.read_text())["address"]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(params=["local", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Two side by side."""
    scheduler = request.getfixturevalue("cluster") if request.param == "dask" else None
    with open_executor(scheduler, 2) as made:
        wait_for(lambda: made.width == 2)
        yield made


def tasks(bench: Path, *words: str) -> list[Task]:
    return [Task("toy", bench, word, bench / "logs" / word, HERE) for word in words]


def begun(bench: Path, word: str) -> list[list[int]]:
    """(process, its parent, threads) of each time that a task began."""
    path = bench / f"{word}.begun"
    return (
        [[int(part) for part in line.split()] for line in path.read_text().splitlines()]
        if path.is_file()
        else []
    )


def test_every_task_ends_as_its_process_does(executor: Executor, tmp_path: Path) -> None:
    found = {task.argument: ended for task, ended in executor.run(tasks(tmp_path, "a", "fail", "abort"))}
    assert found == {"a": Ended(0), "fail": Ended(3), "abort": Ended(-signal.SIGABRT)}
    assert (tmp_path / "logs" / "a").read_text() == "hello from a\n"
    assert all(len(begun(tmp_path, word)) == 1 for word in found)


def test_side_by_side_and_one_by_one(executor: Executor, tmp_path: Path) -> None:
    results = executor.run(tasks(tmp_path, "wait1", "wait2"))
    thread = threading.Thread(target=lambda: list(results))
    thread.start()
    wait_for(lambda: begun(tmp_path, "wait1") and begun(tmp_path, "wait2"))
    for word in ("wait1", "wait2"):
        (tmp_path / f"{word}.go").touch()
    thread.join()
    order = []
    for task, _ in executor.run(tasks(tmp_path, "b", "c", "d"), alone=True):
        order.append(task.argument)
        after = {"b": "cd", "c": "d", "d": ""}[task.argument]
        if isinstance(executor, LocalExecutor):
            continue  # the next may have begun since
        assert not any(begun(tmp_path, word) for word in after)
    assert order == ["b", "c", "d"]


def test_leaving_early_has_processes_save_and_end(executor: Executor, tmp_path: Path) -> None:
    waits = ("wait1", "wait2", "wait3")
    results = executor.run(tasks(tmp_path, "a", *waits))
    assert next(results)[0].argument == "a"

    def running() -> list[str]:
        return [word for word in waits if begun(tmp_path, word)]

    wait_for(lambda: len(running()) == 2)  # which two is dask's choice: a task may queue behind a long one
    results.close()
    for word in running():
        wait_for((tmp_path / f"{word}.saved").exists)
    assert len(running()) == 2
    assert [ended.code for _, ended in executor.run(tasks(tmp_path, "d"))] == [0]  # it can go on


def test_threads_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    for workers, each in ((1, 6), (2, 3), (4, 1), (9, 1)):
        assert LocalExecutor(workers).threads == each
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert LocalExecutor().threads == cores()
    list(LocalExecutor(1).run(tasks(tmp_path, "a")))
    assert begun(tmp_path, "a")[0][2] == cores()


def test_a_killed_process_of_this_machine_is_seen(tmp_path: Path) -> None:
    results = LocalExecutor(1).run(tasks(tmp_path, "wait1", "a"))
    found: dict[str, Ended] = {}
    thread = threading.Thread(target=lambda: found.update({task.argument: ended for task, ended in results}))
    thread.start()
    wait_for(lambda: begun(tmp_path, "wait1"))
    os.kill(begun(tmp_path, "wait1")[0][0], signal.SIGKILL)
    thread.join()
    assert found == {"wait1": Ended(-signal.SIGKILL), "a": Ended(0)}


def test_a_task_whose_worker_dies_runs_again_on_another(cluster: str, tmp_path: Path) -> None:
    with open_executor(cluster, 1) as made:
        wait_for(lambda: made.width == 2)
        results = made.run(tasks(tmp_path, "wait1", "wait2"))
        found: dict[str, Ended] = {}
        thread = threading.Thread(
            target=lambda: found.update({task.argument: ended for task, ended in results})
        )
        thread.start()
        wait_for(lambda: begun(tmp_path, "wait1") and begun(tmp_path, "wait2"))
        os.kill(begun(tmp_path, "wait1")[0][1], signal.SIGKILL)
        wait_for((tmp_path / "wait1.saved").exists)  # the process saw that its worker is no more
        (tmp_path / "wait1.go").touch()
        (tmp_path / "wait2.go").touch()
        thread.join()
    assert found == {"wait1": Ended(0), "wait2": Ended(0)}
    assert [len(begun(tmp_path, word)) for word in ("wait1", "wait2")] == [2, 1]


def test_a_disk_that_a_worker_does_not_see(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match="not seen by this worker; put it on a disk"):
        list(LocalExecutor().run(tasks(tmp_path / "gone", "a")))


def test_no_scheduler_and_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", "0.3s")
    nobody = "tcp://127.0.0.1:9"
    with (
        pytest.raises(CoopsegError, match=r"'tcp://127\.0\.0\.1:9': no dask scheduler answers"),
        open_executor(nobody, 1),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    missing = r'not installed; pip install "coopseg\[cluster\]"'
    with pytest.raises(CoopsegError, match=missing), open_executor(nobody, 1):
        pass
    with pytest.raises(CoopsegError, match="workers must be 1 or more, found 0"):
        LocalExecutor(0)
