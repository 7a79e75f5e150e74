"""What the training logs say: losses, validation Dice, learning rate, and the rise by each mask scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from coopseg.inference.predictor import HEADS
from coopseg.latent.choice import SCHEMES
from coopseg.report.page import Block, Note, Plate, Plates, plate
from coopseg.report.sources import Run
from coopseg.results.figures import draw_curves
from coopseg.results.records import best_of
from coopseg.results.scores import Curve, Point
from coopseg.results.table import Results
from coopseg.text import Json

TERMS = ("total", "segmentation", "reconstruction", "refined", "shape")
MOST_POINTS = 150  # of a curve; more are averaged in groups
LAST = 0.25  # of the training, over which the rise is summed up
LOSSES = {
    "total": "Weighted sum of all terms", "segmentation": "Segmentation: CE(p, y)",
    "reconstruction": "Reconstruction: MSE(x′, x)", "refined": "Refined: CE(C(p), y)",
    "shape": "Shape: CE(C(y), y); hard: CE(C(p̂), y)",
}  # fmt: skip
Pick = Callable[[Json], float | None]


def loss_curves(runs: Sequence[Run]) -> list[Curve]:
    """Returns for each loss term a curve a run; dashed, the same term of the hard pass."""
    return [
        curve
        for term in TERMS
        for name in (term, f"hard_{term}")
        for curve in _curves(runs, "train", _key(name), kind=term, dashed=name != term)
    ]


def learning_rates(runs: Sequence[Run]) -> list[Curve]:
    """Returns a curve a run."""
    return _curves(runs, "train", _key("learning_rate"), kind="learning rate")


def validation_curves(runs: Sequence[Run]) -> list[Curve]:
    """Returns for each head the validation Dice, foreground mean, a curve a run, its best step marked."""
    return [
        curve for head in HEADS for curve in _curves(runs, "validation", _mean_of(head), kind=head, head=head)
    ]


def rises(runs: Sequence[Run]) -> list[Curve]:
    """Returns by how much the masks of each code and scheme multiplied their decoder's loss; 1 is no rise."""
    return [
        curve
        for code in ("image", "shape")
        for scheme in SCHEMES
        for curve in _curves(runs, "train", _rise(f"{code}/{scheme}"), kind=f"{code} code, {scheme}")
    ]


def last_quarter(curves: Sequence[Curve]) -> dict[str, float]:
    """Returns the mean over the last quarter of the training by row, over its runs."""
    found: dict[str, list[float]] = {}
    for curve in curves:
        start = (1 - LAST) * curve.points[-1].x
        late = [point.mean for point in curve.points if point.x >= start]
        found.setdefault(curve.row, []).append(fmean(late))
    return {row: fmean(values) for row, values in found.items()}


def _key(name: str) -> Pick:
    return lambda entry: _number(entry.get(name))


def _mean_of(head: str) -> Pick:
    return lambda entry: _number(_part(entry, head).get("mean"))


def _rise(key: str) -> Pick:
    return lambda entry: _number(_part(entry, "rise").get(key))


def _part(entry: Json, name: str) -> Json:
    part = entry.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _curves(
    runs: Sequence[Run], entries: str, pick: Pick, *, kind: str, head: str = "", dashed: bool = False
) -> list[Curve]:
    curves = []
    for run in runs:
        found = [(entry["step"], pick(entry)) for entry in run.log if entry.get("kind") == entries]
        if points := _thin([(step, value) for step, value in found if value is not None]):
            best = (best_of(run.record, head) or (None, None))[1]
            curves.append(Curve(run.method, kind, head, points, run.label, dashed, best))
    return curves


def _thin(points: Sequence[tuple[int, float]]) -> tuple[Point, ...]:
    """Averages neighbours, so that no more than MOST_POINTS are left; a group stands at its last step."""
    size = max(1, -(-len(points) // MOST_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple(Point(group[-1][0], float(f"{fmean(value for _, value in group):.5g}")) for group in groups)


def training_blocks(results: Results, runs: Sequence[Run]) -> Iterator[Block]:
    """Yields figures of losses, validation Dice and learning rate; nothing without a log."""
    validation, losses, rates = validation_curves(runs), loss_curves(runs), learning_rates(runs)
    if validation or losses:
        yield Note(
            "A line is a run. Losses are means over the steps between two entries of the log, on a "
            "logarithmic axis where they span much; dashed is the hard pass, on hard examples (x̂, p̂). "
            "The validation Dice is the foreground mean; ○ marks the best of a line. Scores and pictures "
            "on this page are of the weights at the line's end."
        )
        plates = [
            *_plates(results, validation, {head: f"Validation Dice, {head}" for head in _kinds(validation)}),
            *_plates(results, losses, LOSSES, log=True),
            *_plates(results, rates, {"learning rate": "Learning rate"}),
        ]
        yield Plates(tuple(plates))


def _kinds(curves: Sequence[Curve]) -> list[str]:
    return list(dict.fromkeys(curve.kind for curve in curves))


def _plates(
    results: Results,
    curves: Sequence[Curve],
    titles: Mapping[str, str],
    *,
    log: bool = False,
    level: float | None = None,
) -> Iterator[Plate]:
    for kind, group in groupby(curves, key=lambda curve: curve.kind):
        figure = draw_curves(results, list(group), log=log, level=level)
        yield plate(figure, f"{titles[kind]} over training steps", titles[kind])


def rise_blocks(results: Results, runs: Sequence[Run]) -> Iterator[Block]:
    """Yields a figure a code and mask scheme; nothing where no code is masked."""
    found = rises(runs)
    if found:
        yield Note(
            "The loss of the decoder on masked codes over that on clean ones, mean over the steps between "
            "two log entries; 1 (dotted) is no rise; the number above a panel is the mean over the last "
            "quarter of the training. A scheme that stays at 1 teaches nothing; one that grows without end "
            "destroys what it masks. Axes differ between panels."
        )
        titles = {}
        for kind, group in groupby(found, key=lambda curve: curve.kind):
            last = last_quarter(list(group))
            said = ", ".join(f"{results.title(row)} × {value:.2f}" for row, value in last.items())
            titles[kind] = f"{kind}: {said}"
        yield Plates(tuple(_plates(results, found, titles, log=True, level=1)))
