"""Single volumes of runs: dots for the figure, the worst and the slowest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from coopseg.report.page import Block, Grid, Note, Plates, plate
from coopseg.report.sources import Run, by_method
from coopseg.results.figures import Strip, draw_strips
from coopseg.results.patients import ALL, MEAN
from coopseg.results.shown import Heading, Line, Shown, Table, number_text
from coopseg.results.study import STEPS
from coopseg.results.table import Results
from coopseg.text import Json

MOST_VOLUMES = 300  # of one run and data set; above it a dot is a patient
LISTED = 10


@dataclass(frozen=True)
class Volume:
    """A volume that a run predicted: Dice of each class and their mean, HD95 in mm, seconds.

    empty: the classes of which only truth or only the prediction holds a voxel.
    """

    run: str
    dataset: str
    case: str
    patient: str
    dice: float
    classes: Mapping[str, float]
    hd95: float | None
    empty: tuple[str, ...]
    seconds: float | None


def volumes(rows: Sequence[Json], head: str, *, run: str = "") -> list[Volume]:
    """Returns the volumes among the rows of an evaluation, by one head."""
    grouped: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for row in rows:
        if row["head"] == head:
            grouped[row["dataset"], row["case"]].append(row)
    return [_volume(run, own) for own in grouped.values()]


def _volume(run: str, rows: Sequence[Json]) -> Volume:
    first = rows[0]
    distances = [row["hd95"] for row in rows if row["hd95"] is not None]
    return Volume(
        run=run,
        dataset=first["dataset"],
        case=first["case"],
        patient=first["patient"],
        dice=fmean(row["dice"] for row in rows),
        classes={row["class"]: row["dice"] for row in rows},
        hd95=fmean(distances) if distances else None,
        empty=tuple(row["class"] for row in rows if row["distance"] == "one empty"),
        seconds=first.get("seconds"),
    )


def all_volumes(runs: Sequence[Run], heads: Mapping[str, str]) -> dict[str, list[Volume]]:
    """Returns the volumes of all runs of each method, by the head that speaks for it."""
    return {
        name: [volume for run in own for volume in volumes(run.rows, heads[name], run=run.label)]
        for name, own in by_method(runs).items()
        if name in heads
    }


def strips(results: Results, every: Mapping[str, Sequence[Volume]]) -> dict[str, list[Strip]]:
    """Returns for each data set a strip of dots a method.

    A dot is a volume; where a method has several runs, or more than 300 volumes, it is a patient: the mean
    over the patient's volumes and the runs.
    """
    found: dict[str, list[Strip]] = defaultdict(list)
    heads = results.last_heads
    for cell in results.cells:
        plain = (cell.budget, cell.class_, cell.group) == (STEPS, MEAN, ALL) and cell.head == heads[cell.row]
        own = [volume for volume in every.get(cell.row, ()) if volume.dataset == cell.column]
        if plain and own and cell.mean is not None:
            each = len({volume.run for volume in own}) == 1 and len(own) <= MOST_VOLUMES
            points = [(volume.case, volume.dice) for volume in own] if each else _patients(own)
            spread = cell.sd_patients if cell.spread is None else cell.spread
            unit = "volume" if each else "patient"
            found[cell.column].append(
                Strip(cell.row, cell.head, unit, tuple(points), cell.mean, spread, cell.trainings)
            )
    return dict(found)


def _patients(found: Sequence[Volume]) -> list[tuple[str, float]]:
    scores: dict[str, list[float]] = defaultdict(list)
    for volume in found:
        scores[volume.patient].append(volume.dice)
    return [(patient, fmean(values)) for patient, values in scores.items()]


def worst(every: Mapping[str, Sequence[Volume]]) -> dict[str, list[Volume]]:
    """Returns the volumes of lowest Dice of each method, all its runs together."""
    return {
        name: sorted(own, key=lambda volume: (volume.dice, volume.dataset, volume.case))[:LISTED]
        for name, own in every.items()
    }


def worst_tables(results: Results, every: Mapping[str, Sequence[Volume]]) -> list[Table]:
    """Returns a table a method of its worst volumes; of two methods with the Dice of the other beside it."""
    tables = []
    heads = results.last_heads
    for name, chosen in worst(every).items():
        others = [other for other in every if other != name] if len(every) == 2 else []
        lines = [
            Line(
                (volume.dataset, volume.case, volume.run),
                (
                    Shown(number_text(volume.dice)),
                    Shown(number_text(volume.hd95, 1)),
                    Shown(", ".join(volume.empty) if len(volume.empty) < len(volume.classes) else "all"),
                    *(Shown(number_text(_dice_of(every[other], volume))) for other in others),
                ),
            )
            for volume in chosen
        ]
        titles = ("Dice", "HD95, mm", "empty", *map(results.title, others))
        title = f"{results.title(name)}, {heads[name]}"
        names = ("data set", "volume", "run")
        tables.append(Table(names, tuple(map(Heading, titles)), tuple(lines), title))
    return tables


def _dice_of(found: Sequence[Volume], volume: Volume) -> float | None:
    same = [one.dice for one in found if (one.dataset, one.case) == (volume.dataset, volume.case)]
    return fmean(same) if same else None


def slowest_table(results: Results, every: Mapping[str, Sequence[Volume]]) -> Table | None:
    """Returns the volumes that took longest to predict; the caption has the median of each method."""
    timed = [
        (volume.seconds, name, volume)
        for name, own in every.items()
        for volume in own
        if volume.seconds is not None
    ]
    if not timed:
        return None
    by_method: dict[str, list[float]] = defaultdict(list)
    for seconds, name, _ in timed:
        by_method[name].append(seconds)
    medians = ", ".join(
        f"{results.title(name)} {median(own):.2f} s (n = {len(own)})" for name, own in by_method.items()
    )
    lines = [
        Line((results.title(name), volume.dataset, volume.case, volume.run), (Shown(f"{seconds:.2f}"),))
        for seconds, name, volume in sorted(timed, key=lambda entry: -entry[0])[:LISTED]
    ]
    note = f"Prediction of one volume by all heads, without reading the files. Median: {medians}."
    names = ("method", "data set", "volume", "run")
    return Table(names, (Heading("seconds"),), tuple(lines), "Slowest to predict", note)


def case_blocks(results: Results, volumes: Mapping[str, Sequence[Volume]]) -> Iterator[Block]:
    """Yields a figure a data set with every case of every method."""
    found = strips(results, volumes)
    if found:
        yield Note(
            "Each dot is a volume, or a patient where a method has several runs or very many volumes; ◇ is "
            "the mean of the table above, upright lines are the means of single trainings. Look for a long "
            "tail to the left: failures that a mean hides. All panels share one axis."
        )
        values = [dice for own in found.values() for strip in own for _, dice in strip.points]
        low = min(0.8, math.floor(10 * min(values)) / 10)
        yield Plates(
            tuple(
                plate(draw_strips(results, own, low=low), f"Dice of every case on {name}", name)
                for name, own in found.items()
            )
        )


def extreme_blocks(results: Results, volumes: Mapping[str, Sequence[Volume]]) -> Iterator[Block]:
    """Yields the tables of the worst and the slowest volumes; nothing where none was evaluated."""
    if volumes:
        yield Note(
            "The volumes of lowest Dice (mean over classes) of each method, all its runs together, by its "
            "last head. “empty”: classes of which only truth or only the prediction holds a voxel."
        )
        yield from map(Grid, worst_tables(results, volumes))
        if slowest := slowest_table(results, volumes):
            yield Grid(slowest)
