"""Shows an evaluation: cases with true and predicted contours, and one stored slice of each data set.

The stored slices, for a report to show, are chosen by the data alone, so that models evaluated on the same
data can be laid side by side.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from matplotlib.figure import Figure

from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import PredictedCase, Predictions, Row
from coopseg.scans.colours import structure_colours
from coopseg.scans.contours import borders, inner_first, outlines
from coopseg.scans.files import write_atomically
from coopseg.scans.geometry import find_orientation, to_slices
from coopseg.scans.types import Dataset, ScanRef

POSITIONS = (1 / 6, 1 / 2, 5 / 6)  # among the slices with foreground: one near each end, one in the middle
GREY = (1, 99.5)  # percentiles of the volume shown as black and white
MARGIN = 0.4  # shown around the foreground, as a fraction of its extent
SLICES = "slices.npz"
TRUTH, IMAGE = "truth", "image"
STORED_GREY = (2, 98)  # percentiles of the volume stored as 0 and 255
# As .truth in pages/templates/style.css: white, for a class has its colour where it is predicted.
TRUE_LOOK: dict[str, Any] = {"color": "#ffffff", "linestyle": (0, (4, 3)), "linewidth": 1.2}
VIEW = 1.7  # side of the stored square over the longer side of the true foreground


class StoredSlice(TypedDict):
    """Says which slice of a data set is stored, from 1, and how far apart its rows and columns are, in mm."""

    dataset: str
    case: str
    patient: str
    phase: str
    copy: int
    slices: int
    slice: int
    spacing: list[float]


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
    predictions: Predictions, datasets: Sequence[Dataset], rows: Sequence[Row], *, head: str, out: Path
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
            orientation = find_orientation(found.scan.affine, found.scan.data.shape)
            stored = (found.scan.data, found.target, found.heads[head])
            volumes = [to_slices(volume, orientation) for volume in stored]
            _, height, width = orientation.spacing(found.scan.spacing)
            title = f"{name} · {rank} · {case} · {head} Dice {score:.3f}"
            figure = draw_case(*volumes, names=predictions.names, title=title, aspect=height / width)
            paths.append(out / f"{stems[name]}_{rank}.png")
            buffer = io.BytesIO()
            figure.savefig(buffer, dpi=110)
            write_atomically(paths[-1], buffer.getvalue())
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
    """Draws three slices: predicted contours in the colour of their class, true ones dashed in white.

    image, target, prediction: (slices, H, W); the last two hold class indices into `names`. aspect: height of
    a pixel over its width. The slices lie at one sixth, one half and five sixths of those with foreground in
    truth or prediction; the view is cropped to the foreground and a margin.
    """
    chosen, window = _view(target, prediction)
    low, high = np.percentile(image, GREY)
    colours = [tuple(level / 255 for level in colour) for colour in structure_colours(names)]
    figure = Figure(figsize=(4 * len(chosen), 4.9), layout="constrained", facecolor="white")
    for axes, index in zip(np.ravel(figure.subplots(1, len(chosen))), chosen, strict=True):
        inside = (index, *window)
        axes.imshow(image[inside], cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        axes.autoscale(False)  # an outline at the border lies half a pixel beyond it
        for label in reversed(inner_first(prediction[inside])):  # which lie on top where outlines meet
            for line in outlines(prediction[inside] == label):
                axes.plot(line[:, 1], line[:, 0], color=colours[label], linewidth=1.8)
        for line in borders(target[inside]):
            axes.plot(line[:, 1], line[:, 0], **TRUE_LOOK)
        axes.set_title(f"slice {index + 1} of {len(image)}", fontsize=9)
        axes.set_axis_off()
    for colour, name in zip(colours[1:], names[1:], strict=True):
        axes.plot([], [], color=colour, linewidth=1.8, label=f"{name}, predicted")
    axes.plot([], [], label="truth, of every class", **TRUE_LOOK)
    legend = figure.legend(
        loc="outside lower center", ncols=len(names), fontsize=9, facecolor="#333333", labelcolor="white"
    )
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


def write_slices(predictions: Predictions, datasets: Sequence[Dataset], *, out: Path) -> list[StoredSlice]:
    """Write OUT/slices.npz and return its index, one entry per data set in their order.

    The npz holds, for data set number i from 0, "i/image" (H, W) uint8 grey values, "i/truth" and "i/HEAD"
    (H, W) uint8 class indices: rows and columns in the common in-plane orientation (see `find_orientation`),
    cropped around the true foreground, pixels as stored. An entry names dataset, case, patient, phase and
    copy, the slice (from 1), the number of slices, and the spacing of rows and columns in mm.
    The volume is of `shared_patient` if the data set has this patient, else of its first patient by name; it
    is the ED one if there is one, and the lowest copy. The slice is the one with the most true foreground;
    corrupted copies of the first volume shown give the same slice as it does. predictions: as for `evaluate`.
    """
    patient = shared_patient(datasets)
    arrays: dict[str, np.ndarray] = {}
    index: list[StoredSlice] = []
    for number, dataset in enumerate(datasets):
        ref = choose_volume(dataset, patient)
        entry, stored = _take(dataset.name, ref, predictions(dataset, ref), shown=index[0] if index else None)
        arrays |= {f"{number}/{name}": values for name, values in stored.items()}
        index.append(entry)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its keyword allow_pickle is no array
    write_atomically(out / SLICES, buffer.getvalue())
    return index


def shared_patient(datasets: Sequence[Dataset]) -> str:
    """Returns that patient of the first data set whom most data sets have, e.g. one with corrupted copies."""
    held = [set(dataset.patients) for dataset in datasets]
    return min(held[0], key=lambda name: (-sum(name in patients for patients in held), name))


def choose_volume(dataset: Dataset, patient: str) -> ScanRef:
    """Returns the volume to show; see `write_slices`."""
    wanted = patient if patient in dataset.patients else min(dataset.patients)
    own = [ref for ref in dataset.items if ref.patient == wanted]
    return min(own, key=lambda ref: (ref.phase != "ED", ref.copy))


def largest_slice(target: np.ndarray) -> int:
    """Returns the index of the slice of (slices, H, W) with most foreground; the middle if there is none."""
    areas = np.count_nonzero(target, axis=(1, 2))
    return int(areas.argmax()) if areas.any() else len(target) // 2


def square_around(mask: np.ndarray, spacing: tuple[float, float]) -> tuple[slice, slice]:
    """Returns rows and columns of a square, in mm, around the True pixels of (H, W); all if none is True."""
    if not mask.any():
        return slice(None), slice(None)
    found = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    sides = [(ends[-1] - ends[0] + 1) * step for ends, step in zip(found, spacing, strict=True)]
    half = VIEW * max(sides) / 2
    centres = [(ends[0] + ends[-1]) / 2 for ends in found]
    rows, columns = (
        slice(max(round(centre - half / step), 0), round(centre + half / step) + 1)
        for centre, step in zip(centres, spacing, strict=True)
    )
    return rows, columns


def _take(
    dataset: str, ref: ScanRef, found: PredictedCase, *, shown: StoredSlice | None
) -> tuple[StoredSlice, dict[str, np.ndarray]]:
    orientation = find_orientation(found.scan.affine, found.scan.data.shape)
    image, target = to_slices(found.scan.data, orientation), to_slices(found.target, orientation)
    _, height, width = orientation.spacing(found.scan.spacing)
    volume = (ref.patient, ref.phase, len(target))
    if shown and ref.copy and volume == (shown["patient"], shown["phase"], shown["slices"]):
        number = shown["slice"] - 1
    else:
        number = largest_slice(target)
    entry: StoredSlice = {
        "dataset": dataset, "case": ref.id, "patient": ref.patient, "phase": ref.phase, "copy": ref.copy,
        "slices": len(target), "slice": number + 1, "spacing": [height, width],
    }  # fmt: skip
    window = (number, *square_around(target[number] > 0, (height, width)))
    stored = {IMAGE: _grey(image, window), TRUTH: target[window].astype(np.uint8)}
    for head, prediction in found.heads.items():
        stored[head] = to_slices(prediction, orientation)[window].astype(np.uint8)
    return entry, stored


def _grey(volume: np.ndarray, window: tuple[int, slice, slice]) -> np.ndarray:
    low, high = np.percentile(volume, STORED_GREY)
    scaled = (volume[window] - low) / max(high - low, np.finfo(np.float32).tiny)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
