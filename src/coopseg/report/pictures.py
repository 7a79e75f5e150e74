"""What can be looked at: one slice of each data set with contours, and hard examples through the training."""

from __future__ import annotations

import base64
import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from coopseg.errors import CoopsegError
from coopseg.evaluation.pictures import IMAGE, SLICES, TRUTH
from coopseg.latent.choice import SCHEMES
from coopseg.report.cases import volumes
from coopseg.report.sources import Run, by_method
from coopseg.results.columns import Column
from coopseg.scans.colours import as_hex, structure_colours
from coopseg.scans.contours import borders, inner_first, outlines, svg_path
from coopseg.scans.types import BACKGROUND
from coopseg.text import Json, one_line, open_regular
from coopseg.training.hard_examples import FOLDER as HARD_EXAMPLES

MOST_BYTES = 2**28  # of all arrays of a file; those of an evaluation take some megabytes
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
STAGES = ("early", "midway", "late")
LARGEST = 160  # pixels of a picture's longer side; larger ones are made smaller


@dataclass(frozen=True)
class Stored:
    """An evaluation whose stored slices are to be shown. record: evaluation.json. note: of what training."""

    row: str
    note: str
    head: str
    folder: Path
    record: Json
    rows: Sequence[Json]


@dataclass(frozen=True)
class Outline:
    """The outline of a class as SVG path data, in mm from the upper left corner."""

    class_: str
    path: str


@dataclass(frozen=True)
class Panel:
    """What a row predicted on a slice; Dice of the whole volume, mean over classes and of each class."""

    row: str
    note: str
    head: str
    dice: float
    classes: dict[str, float]
    prediction: tuple[Outline, ...]


@dataclass(frozen=True)
class Slice:
    """A stored slice: the image as a PNG in a data address, its size in mm, truth and a panel a row.

    borders: the path of all true outlines, those that two classes share once.
    """

    dataset: str
    case: str
    slice: int
    slices: int
    image: str
    size_mm: tuple[float, float]
    truth: tuple[Outline, ...]
    borders: str
    panels: tuple[Panel, ...]


def slice_pictures(stored: Iterable[Stored], columns: Sequence[Column]) -> list[Slice]:
    """Returns the slices in the order of columns, each image once with all rows that were tested on it."""
    found: dict[tuple[str, str, int], tuple[Slice, list[Panel]]] = {}
    order = [column.name for column in columns]
    for one in stored:
        with _fitting(one.folder / SLICES):
            arrays = read_arrays(one.folder / SLICES, axes=2) if one.record["slices"] else {}
            for number, entry in enumerate(one.record["slices"]):
                key = entry["dataset"], entry["case"], entry["slice"]
                order.index(key[0])
                names, (height, width) = one.record["model"]["names"], entry["spacing"]
                if key not in found:
                    image = arrays[f"{number}/{IMAGE}"]
                    size = round(image.shape[0] * height, 2), round(image.shape[1] * width, 2)
                    indices = arrays[f"{number}/{TRUTH}"]
                    truth = contours(indices, names, (height, width))
                    lines = svg_path(borders(indices), (height, width))
                    found[key] = Slice(*key, entry["slices"], grey_png(image), size, truth, lines, ()), []
                prediction = contours(arrays[f"{number}/{one.head}"], names, (height, width))
                own = [row for row in one.rows if (row["dataset"], row["case"]) == key[:2]]
                (volume,) = volumes(own, one.head)
                panel = Panel(one.row, one.note, one.head, volume.dice, dict(volume.classes), prediction)
                found[key][1].append(panel)
    made = [replace(shown, panels=tuple(panels)) for shown, panels in found.values()]
    return sorted(made, key=lambda shown: order.index(shown.dataset))


def stored_of_runs(runs: Sequence[Run], heads: dict[str, str]) -> list[Stored]:
    """Returns the evaluations of each method's first run."""
    return [
        Stored(name, own[0].label, heads[name], evaluation.folder, evaluation.record, evaluation.rows)
        for name, own in by_method(runs).items()
        if name in heads
        for evaluation in own[0].evaluations
    ]


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each class but the background, as #rrggbb."""
    pairs = zip(names, structure_colours(names), strict=True)
    return {name: as_hex(colour) for name, colour in pairs if name != BACKGROUND}


def grey_png(values: np.ndarray) -> str:
    """Returns (H, W) uint8 grey values as a data address."""
    image = Image.fromarray(np.ascontiguousarray(values))
    return _address(_smaller(image, Image.Resampling.BILINEAR))


def class_png(indices: np.ndarray, names: Sequence[str]) -> str:
    """Returns (H, W) uint8 class indices into `names` as a data address, classes in colour on black."""
    image = Image.fromarray(np.ascontiguousarray(indices), mode="P")
    image.putpalette([level for colour in structure_colours(names) for level in colour])
    return _address(_smaller(image, Image.Resampling.NEAREST))


def contours(indices: np.ndarray, names: Sequence[str], spacing: tuple[float, float]) -> tuple[Outline, ...]:
    """Returns the outline of every foreground class that is there, inner ones first.

    indices: (H, W) class indices into `names`, background first. spacing: mm of a row and of a column. An
    outline passes halfway between pixels in and out of the class.
    """
    return tuple(
        Outline(names[index], svg_path(outlines(indices == index), spacing)) for index in inner_first(indices)
    )


def _smaller(image: Image.Image, method: Image.Resampling) -> Image.Image:
    scale = LARGEST / max(image.size)
    if scale >= 1:
        return image
    return image.resize((round(image.width * scale), round(image.height * scale)), method)


def _address(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class HardRow:
    """One picture a stage: x' or p for the scheme "none", x̂ or p̂ under the others, as PNGs."""

    code: str
    scheme: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class HardSample:
    """A training slice, its image and label as PNGs, and what the networks made of it."""

    image: str
    label: str
    rows: tuple[HardRow, ...]


@dataclass(frozen=True)
class HardExamples:
    """The hard examples of a method's first run. stages: name and step of each moment."""

    row: str
    run: str
    stages: tuple[tuple[str, int], ...]
    samples: tuple[HardSample, ...]


def hard_examples(runs: Sequence[Run]) -> list[HardExamples]:
    """Returns reconstructions and segmentations, clean and under every mask, where a method stored any."""
    found = []
    for name, (run, *_) in by_method(runs).items():
        files = sorted((run.folder / HARD_EXAMPLES).glob("step*.npz"))
        if files:
            with _fitting(run.folder / HARD_EXAMPLES):
                arrays = [read_arrays(file, axes=3) for file in files]
                steps = [int(file.stem.removeprefix("step")) for file in files]
                titles = STAGES if len(files) == len(STAGES) else [""] * len(files)
                samples = tuple(_samples(arrays, run.record["data"]["labels"]))
                found.append(HardExamples(name, run.label, tuple(zip(titles, steps, strict=True)), samples))
    return found


def _samples(stages: Sequence[dict[str, np.ndarray]], names: Sequence[str]) -> Iterable[HardSample]:
    last = stages[-1]
    for number in range(len(last["image"])):
        rows = tuple(row for code in ("image", "shape") for row in _rows(stages, code, number, names))
        yield HardSample(grey_png(last["image"][number]), class_png(last["label"][number], names), rows)


def _rows(
    stages: Sequence[dict[str, np.ndarray]], code: str, number: int, names: Sequence[str]
) -> Iterable[HardRow]:
    clean = {"image": "reconstruction", "shape": "prediction"}[code]
    for scheme, key in {"none": clean, **{scheme: f"{code}_{scheme}" for scheme in SCHEMES}}.items():
        if key in stages[-1]:
            values = [stage[key][number] for stage in stages]
            pictures = [grey_png(v) if code == "image" else class_png(v, names) for v in values]
            yield HardRow(code, scheme, tuple(pictures))


def read_arrays(path: Path, *, axes: int) -> dict[str, np.ndarray]:
    """Reads the pictures of an npz file, uint8 of so many axes, after their headers have told their size.

    Raises CoopsegError where it cannot be read, or takes more than MOST_BYTES.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as stored:
            sizes = [_declared(stored, name, axes) for name in stored.namelist()]
            if sum(sizes) > MOST_BYTES:
                raise ValueError(f"its arrays take {sum(sizes)} bytes, at most {MOST_BYTES} are read")
            arrays = {name.removesuffix(".npy"): _array(stored, name) for name in stored.namelist()}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        NotImplementedError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise CoopsegError(f"{path}: cannot be read ({one_line(error)}); run what wrote it again") from None
    return arrays


def _declared(stored: zipfile.ZipFile, name: str, axes: int) -> int:
    """Returns the bytes that an array takes by its own header, which numpy holds against the content."""
    with stored.open(name) as file:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(
            npy.read_magic(file)
        )
        if read is None:
            raise ValueError(f"{name} is in an unknown format")
        shape, _, dtype = read(file)
    if dtype != np.uint8 or min(shape, default=1) < 1 or len(shape) != axes:
        raise ValueError(f"{name} is {dtype} of shape {shape}, no picture")
    return math.prod(shape)


def _array(stored: zipfile.ZipFile, name: str) -> np.ndarray:
    with stored.open(name) as file:
        return npy.read_array(file, allow_pickle=False)


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Says in one line that arrays and what describes them do not belong together."""
    try:
        yield
    except (KeyError, IndexError, ValueError, TypeError) as error:
        if isinstance(error, CoopsegError):
            raise
        raise CoopsegError(
            f"{path}: does not fit the record beside it ({one_line(error)}); run what wrote it again"
        ) from None
