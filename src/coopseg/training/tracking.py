"""Where a run's numbers go: JSON lines always, TensorBoard where it is installed. One small protocol."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Takes flat records of numbers as training produces them."""

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Record `values` of a `kind` ("train", "validation") at a step."""

    def close(self) -> None:
        """Write out what is left."""


class JsonLines:
    """One JSON object a line, flushed at once, so that a killed run keeps what it had."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8")

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Append a line."""
        self.file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoard:
    """Scalars for TensorBoard (extra `track`)."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Write every number, nested names joined by a slash."""
        for name, value in _flat(values):
            self.writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()


def make_trackers(folder: Path) -> list[Tracker]:
    """log.jsonl, and TensorBoard events if the package is there."""
    trackers: list[Tracker] = [JsonLines(folder / "log.jsonl")]
    if importlib.util.find_spec("tensorboard"):
        trackers.append(TensorBoard(folder / "tensorboard"))
    return trackers


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    pairs: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            pairs.append((prefix + name, float(value)))
    return pairs
