"""Draws the worst, the median and the best case of each data set, with true and predicted contours."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import Row
from coopseg.evaluation.predictions import Predictions
from coopseg.scans.geometry import find_orientation, to_slices
from coopseg.scans.labels import default_colours
from coopseg.scans.types import Dataset

POSITIONS = (1 / 6, 1 / 2, 5 / 6)  # among the slices with foreground: one near each end, one in the middle
GREY = (1, 99.5)  # percentiles of the volume shown as black and white
MARGIN = 0.4  # shown around the foreground, as a fraction of its extent


def pick_cases(rows: Sequence[Row], *, head: str) -> dict[str, dict[str, tuple[str, float]]]:
    """Returns {data set: {"worst" | "median" | "best": (case, mean foreground Dice)}} for one head.

    Of an even number of cases the median is the lower of the two in the middle; equal scores are ordered by
    name. Two cases give only worst and best, one gives only best, so that no case is picked twice.
    Raises CoopsegError if no row is of that head.
    """
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["head"] == head:
            scores[row["dataset"]][row["case"]].append(row["dice"])
    if not scores:
        heads = ", ".join(dict.fromkeys(row["head"] for row in rows))
        raise CoopsegError(f"no row is of head {head!r}; the rows have: {heads or 'none'}")
    return {
        dataset: _pick({case: float(np.mean(v)) for case, v in cases.items()})
        for dataset, cases in scores.items()
    }


def _pick(cases: dict[str, float]) -> dict[str, tuple[str, float]]:
    ordered = sorted(cases.items(), key=lambda item: (item[1], item[0]))
    picked = {"best": ordered[-1], "worst": ordered[0], "median": ordered[(len(ordered) - 1) // 2]}
    kept = list(picked)[: min(len(ordered), 3)]
    return {rank: picked[rank] for rank in ("worst", "median", "best") if rank in kept}


def write_pictures(
    predictions: Predictions,
    datasets: Sequence[Dataset],
    rows: Sequence[Row],
    *,
    head: str,
    out: Path,
) -> list[Path]:
    """Write OUT/<data set>_<rank>.png for the cases of `pick_cases`.

    predictions, datasets: those given to `evaluate`, which returned `rows`. Slices are stacked along the
    coarsest axis. Returns the paths.
    """
    out.mkdir(parents=True, exist_ok=True)
    by_name = {dataset.name: dataset for dataset in datasets}
    stems = file_stems(by_name)
    paths = []
    for name, ranks in pick_cases(rows, head=head).items():
        for rank, (case, score) in ranks.items():
            ref = next(item for item in by_name[name].items if item.id == case)
            found = predictions(by_name[name], ref)
            orientation = find_orientation(found.scan.affine)
            stored = (found.scan.data, found.target, found.heads[head])
            volumes = [to_slices(volume, orientation) for volume in stored]
            _, height, width = orientation.spacing(found.scan.spacing)
            title = f"{name} · {rank} · {case} · {head} Dice {score:.3f}"
            figure = draw_case(*volumes, names=predictions.names, title=title, aspect=height / width)
            paths.append(out / f"{stems[name]}_{rank}.png")
            figure.savefig(paths[-1], dpi=110)
    return paths


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """Returns a unique, file-system-safe stem for each name: a data set may be called M&Ms, or a/b."""
    stems: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^\w.-]+", "-", name)[:50]
        while stem in stems.values():
            stem += "-"
        stems[name] = stem
    return stems


def draw_case(
    image: np.ndarray,
    target: np.ndarray,
    prediction: np.ndarray,
    *,
    names: Sequence[str],
    title: str,
    aspect: float = 1.0,
) -> Figure:
    """Draws three slices: true contours solid, predicted ones dashed, one colour for each class.

    image, target, prediction: (slices, H, W); the last two hold class indices into `names`. aspect: height of
    a pixel over its width. The slices lie at one sixth, one half and five sixths of those with foreground in
    truth or prediction; the view is cropped to the foreground and a margin.
    """
    chosen, window = _view(target, prediction)
    low, high = np.percentile(image, GREY)
    colours = [tuple(level / 255 for level in colour) for colour in default_colours(tuple(names))]
    figure = Figure(figsize=(4 * len(chosen), 4.9), layout="constrained", facecolor="white")
    for axes, index in zip(np.ravel(figure.subplots(1, len(chosen))), chosen, strict=True):
        inside = (index, *window)
        axes.imshow(image[inside], cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        for label in reversed(range(1, len(names))):  # where contours meet, the first class lies on top
            _contour(axes, target[inside] == label, colours[label], "solid")
            _contour(axes, prediction[inside] == label, colours[label], "dashed")
        axes.set_title(f"slice {index + 1} of {len(image)}", fontsize=9)
        axes.set_axis_off()
    for colour, name in zip(colours[1:], names[1:], strict=True):
        axes.plot([], [], color=colour, label=name)
    axes.plot([], [], color="black", label="true")
    axes.plot([], [], color="black", linestyle="dashed", label="predicted")
    legend = figure.legend(loc="outside lower center", ncols=len(names) + 1, fontsize=9, frameon=False)
    for text in (*legend.get_texts(), figure.suptitle(title, fontsize=11)):
        text.set_parse_math(False)  # a dollar sign in a name is no formula
    return figure


def _view(target: np.ndarray, prediction: np.ndarray) -> tuple[list[int], tuple[slice, slice]]:
    foreground = (target > 0) | (prediction > 0)
    if not foreground.any():
        return [len(target) // 2], (slice(None), slice(None))
    slices = np.flatnonzero(foreground.any(axis=(1, 2)))
    chosen = [int(slices[int(position * len(slices))]) for position in POSITIONS]
    window = [_extent(np.flatnonzero(foreground.any(axis=axes))) for axes in ((0, 2), (0, 1))]
    return list(dict.fromkeys(chosen)), (window[0], window[1])


def _extent(present: np.ndarray) -> slice:
    first, last = int(present[0]), int(present[-1])
    margin = int(MARGIN * (last - first + 1)) + 4
    return slice(max(first - margin, 0), last + margin + 1)


def _contour(axes: Axes, mask: np.ndarray, colour: tuple[float, ...], style: str) -> None:
    if mask.any() and not mask.all():  # there is no contour otherwise, and matplotlib warns
        axes.contour(mask, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.4)
