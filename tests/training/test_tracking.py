"""What trackers leave on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coopseg.training.tracking import JsonLines, make_trackers

VALUES = {"total": 1.5, "FTN": {"mean": 0.25, "LV": 0.5}}


def test_lines_are_on_disk_at_once(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path / "log.jsonl")
    tracker.log("train", 3, VALUES)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()  # not closed: as after a kill
    tracker.close()
    assert json.loads(line) == {"kind": "train", "step": 3, **VALUES}


def test_tensorboard_holds_the_same_numbers(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for tracker in make_trackers(tmp_path):
        tracker.log("validation", 7, VALUES)
        tracker.close()
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (scalar,) = events.Scalars("validation/FTN/LV")
    assert (scalar.step, scalar.value) == (7, 0.5)


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    first = JsonLines(tmp_path / "log.jsonl")
    for step in (0, 10, 20, 30):
        first.log("train", step, {"total": step / 10})
    first.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "tra')  # killed within a line
    again = JsonLines(tmp_path / "log.jsonl", after=20)
    again.log("train", 30, {"total": 7.0})
    again.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(0, 0.0), (10, 1.0), (20, 2.0), (30, 7.0)]
