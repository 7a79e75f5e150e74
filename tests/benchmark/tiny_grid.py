"""Grids of seconds: tiny networks, two steps, one copy; and an executor without processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from coopseg.benchmark import job, probe
from coopseg.benchmark.executor import Ended, Task

SETTINGS = {
    "network.width": 2, "cases.size": [32, 32], "cases.spacing": 6.0, "training.steps": 2,
    "training.validations": 1, "training.batch_size": 4, "rivals.post_dae.validate_every": 2,
}  # fmt: skip
TINY: dict[str, Any] = {
    "preset": "cpu",
    "device": "cpu",
    "settings": SETTINGS,
    "copies": 1,
    "spacing": "nominal",
}
WORDS = (
    "--preset=cpu", "--device=cpu", "--copies=1", "--spacing=nominal",
    *(f"--set={key}={value}" for key, value in SETTINGS.items()),
)  # fmt: skip


class InProcess:
    """Runs tasks one after another where it stands. before: called with each first; may give its outcome."""

    width = 1

    def __init__(self, before: Callable[[Task], Ended | None] = lambda task: None) -> None:
        self.before = before
        self.ran: list[Any] = []

    def run(self, tasks: Sequence[Task], *, alone: bool = False) -> Iterator[tuple[Task, Ended]]:
        """See `Executor`."""
        for task in tasks:
            self.ran.append(task.argument)
            ended = self.before(task)
            if ended is None:
                main = {"coopseg.benchmark.job": job.main, "coopseg.benchmark.probe": probe.main}[task.module]
                ended = Ended(main(task.bench, task.argument, *task.trusted))
            yield task, ended


def state(bench: Path) -> dict[str, str]:
    """Of every job, by its id: finished, the error, or waiting."""
    found = {}
    for folder in sorted((bench / "jobs").iterdir()):
        error = folder / "error.json"
        done = "finished" if (folder / "result.json").is_file() else "waiting"
        found[folder.name] = json.loads(error.read_text())["error"] if error.is_file() else done
    return found
