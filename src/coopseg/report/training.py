"""What the training logs say: losses, validation Dice, learning rate, and the rise by each mask scheme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from coopseg.inference.predictor import HEADS
from coopseg.latent.choice import SCHEMES
from coopseg.report.sources import Run

TERMS = ("total", "segmentation", "reconstruction", "refined", "shape")
MOST_POINTS = 150  # of a curve; more are averaged in groups
LAST = 0.25  # of the training, over which the rise is summed up

Line = dict[str, Any]


def loss_curves(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each loss term a line a run; dashed, the same term of the hard pass."""
    curves = []
    for term in TERMS:
        lines = [
            line | {"dashed": name.startswith("hard_")}
            for name in (term, f"hard_{term}")
            for line in _lines(runs, "train", lambda entry, name=name: entry.get(name))  # type: ignore[misc]
        ]
        if lines:
            curves.append({"name": term, "lines": lines})
    return curves


def learning_rates(runs: Sequence[Run]) -> list[Line]:
    """A line a run."""
    return _lines(runs, "train", lambda entry: entry.get("learning_rate"))


def validation_curves(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each head the validation Dice, foreground mean, a line a run; `best` is the step of its highest."""
    curves = []
    for head in HEADS:
        lines = _lines(runs, "validation", lambda entry, head=head: entry.get(head, {}).get("mean"))  # type: ignore[misc]
        best = {(run.method, run.label): run.record.get("best", {}).get(head, {}).get("step") for run in runs}
        if lines:
            lines = [line | {"best": best[line["method"], line["run"]]} for line in lines]
            curves.append({"name": head, "lines": lines})
    return curves


def rises(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each code and scheme by how much its masks multiplied their decoder's loss; 1 is no rise.

    `last` is the mean over the last quarter of the training, by method, over its runs.
    """
    curves = []
    for code in ("image", "shape"):
        for scheme in SCHEMES:
            lines = _lines(runs, "train", lambda e, key=f"{code}/{scheme}": e.get("rise", {}).get(key))  # type: ignore[misc]
            if lines:
                curves.append({"code": code, "scheme": scheme, "lines": lines, "last": _last(lines)})
    return curves


def _last(lines: Sequence[Line]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for line in lines:
        start = (1 - LAST) * line["steps"][-1]
        late = [value for step, value in zip(line["steps"], line["values"], strict=True) if step >= start]
        found.setdefault(line["method"], []).append(fmean(late))
    return {method: fmean(values) for method, values in found.items()}


def _lines(runs: Sequence[Run], kind: str, pick: Callable[[dict[str, Any]], float | None]) -> list[Line]:
    lines = []
    for run in runs:
        found = [(entry["step"], pick(entry)) for entry in run.log if entry.get("kind") == kind]
        points = [(step, value) for step, value in found if value is not None]
        if points:
            steps, values = zip(*_thin(points), strict=True)
            lines.append({"method": run.method, "run": run.label, "steps": steps, "values": values})
    return lines


def _thin(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Neighbours averaged, so that no more than MOST_POINTS are left; a group stands at its last step."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], float(f"{fmean(value for _, value in group):.5g}")) for group in groups]
