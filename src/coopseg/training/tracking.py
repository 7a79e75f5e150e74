"""Sends a run's numbers by one small protocol: to JSON lines always, to TensorBoard if it is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Protocol

from coopseg.scans.files import write_atomically
from coopseg.text import flatten


class Tracker(Protocol):
    """Takes records of numbers as training produces them."""

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Record `values` of a `kind` ("train", "validation") at a step."""

    def close(self) -> None:
        """Write out what is left."""


class JsonLines:
    """Writes one JSON object per line, flushed at once, so that a killed run keeps what it had.

    after: the step from which a training goes on; lines of later steps, and an incomplete line, are removed.
    """

    def __init__(self, path: Path, *, after: int = -1) -> None:
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= after]
            write_atomically(path, "".join(kept).encode())
        self.file = path.open("a", encoding="utf-8")

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Append a line."""
        self.file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoard:
    """Writes scalars for TensorBoard (extra `track`)."""

    def __init__(self, folder: Path, *, after: int = -1) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=after + 1)

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Write every number, nested names joined by a slash."""
        for name, value in flatten(values, "/").items():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(f"{kind}/{name}", float(value), step)

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()


def make_trackers(folder: Path, *, after: int = -1) -> list[Tracker]:
    """Makes trackers: log.jsonl and, if installed, TensorBoard; what was logged up to step `after` stays."""
    trackers: list[Tracker] = [JsonLines(folder / "log.jsonl", after=after)]
    if importlib.util.find_spec("tensorboard"):
        trackers.append(TensorBoard(folder / "tensorboard", after=after))
    return trackers
