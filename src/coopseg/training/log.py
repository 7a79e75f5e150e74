"""Reads the losses of the steps now and then, and sends a run's numbers to JSON lines and to TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Protocol, TypedDict

import torch
from torch import Tensor

from coopseg.latent.choice import SCHEMES
from coopseg.scans.files import write_atomically
from coopseg.text import flatten, parse_json, read_bytes
from coopseg.training.step import StepResult

Scores = dict[str, dict[str, float]]  # head, then "mean" or class: Dice; or head, then "step" and "score"
Values = Mapping[str, float | str | Mapping[str, float]]  # what is logged of a step


class Tracker(Protocol):
    """Takes records of numbers as training produces them."""

    def log(self, kind: str, step: int, values: Values) -> None:
        """Record `values` of a `kind` ("train", "validation") at a step."""

    def close(self) -> None:
        """Write out what is left."""


class JsonLines:
    """Writes one JSON object per line, flushed at once, so that a killed run keeps what it had.

    after: the step from which a training goes on; lines of later steps, and an incomplete line, are removed.
    note: a line about a log that was damaged, such as by a power cut, and was set aside; else "".
    """

    def __init__(self, path: Path, *, after: int = -1) -> None:
        self.note = ""
        if path.exists():
            *lines, _ = read_bytes(path).split(b"\n")
            steps = [_step(line) for line in lines]
            if damaged := steps.count(None):
                aside = _free_name(path)
                path.rename(aside)
                self.note = f"{path}: {damaged} damaged lines are left out; the whole is kept as {aside.name}"
            kept = [
                line for line, step in zip(lines, steps, strict=True) if step is not None and step <= after
            ]
            write_atomically(path, b"".join(line + b"\n" for line in kept))
        self.file = path.open("a", encoding="utf-8")

    def log(self, kind: str, step: int, values: Values) -> None:
        """Append a line."""
        self.file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _step(line: bytes) -> int | None:
    """Returns the step of a line of the log; None if it cannot be read."""
    try:
        step = parse_json(line.decode())["step"]
    except (ValueError, TypeError, KeyError):
        return None
    return step if isinstance(step, int) else None


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}.damaged-{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not name.exists())


class TensorBoard:
    """Writes scalars for TensorBoard (extra `track`)."""

    def __init__(self, folder: Path, *, after: int = -1) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=after + 1)

    def log(self, kind: str, step: int, values: Values) -> None:
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


class MeterState(TypedDict):
    """Holds what a meter has not read yet, on the CPU."""

    names: tuple[str, ...]
    losses: list[Tensor]
    rises: dict[str, Tensor]
    batches: list[tuple[str, ...]]


class Meter:
    """Collects step results; `read` gives their means and starts anew."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.losses: list[Tensor] = []
        self.rises: dict[str, Tensor] = {}
        self.batches: list[tuple[str, ...]] = []

    def add(self, result: StepResult, batch: tuple[str, ...]) -> None:
        """Keep a step's losses and the ids of its slices."""
        self.names = tuple(result.losses)
        # a copy: the scalar that mse_loss returns keeps storage of the size of its input
        self.losses.append(torch.stack(tuple(result.losses.values())))
        self.batches.append(batch)
        for code, sums in result.rises.items():
            self.rises[code] = self.rises[code] + sums if code in self.rises else sums

    def __len__(self) -> int:
        return len(self.batches)

    def bad_batch(self) -> tuple[int, tuple[str, ...]] | None:
        """Returns the first step, counted from 0, with a total loss that is not finite, and its slice ids."""
        totals = torch.stack(self.losses)[:, self.names.index("total")].tolist()
        steps = zip(totals, enumerate(self.batches), strict=True)
        return next((batch for total, batch in steps if not math.isfinite(total)), None)

    def state_dict(self) -> MeterState:
        """Returns what has not been read yet, on the CPU, for saving."""
        rises = {code: sums.cpu() for code, sums in self.rises.items()}
        losses = [values.cpu() for values in self.losses]
        return {"names": self.names, "losses": losses, "rises": rises, "batches": list(self.batches)}

    def load_state_dict(self, state: MeterState, device: torch.device) -> None:
        """Restores what `state_dict` returned, on a device."""
        self.names, self.batches = state["names"], state["batches"]
        self.losses = [values.to(device) for values in state["losses"]]
        self.rises = {code: sums.to(device) for code, sums in state["rises"].items()}

    def read(self) -> dict[str, float | dict[str, float]]:
        """Returns each loss term's mean and "rise": by how much each scheme multiplied its decoder's loss."""
        means = torch.stack(self.losses).mean(0)
        values: dict[str, float | dict[str, float]] = dict(zip(self.names, means.tolist(), strict=True))
        rise = {
            f"{code}/{scheme}": hard / clean
            for code, sums in self.rises.items()
            for scheme, (clean, hard, count) in zip(SCHEMES, sums.tolist(), strict=True)
            if count and clean
        }
        self.__init__()  # type: ignore[misc]
        return values | ({"rise": rise} if rise else {})
