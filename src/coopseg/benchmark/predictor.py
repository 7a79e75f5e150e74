"""A row that was made elsewhere: any function from an image to a label map, in any framework."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.config.registry import load_object
from coopseg.errors import CoopsegError
from coopseg.evaluation.subject import Subject, load_subject
from coopseg.inference.onnx_networks import FORMAT
from coopseg.inference.predictor import HEADS
from coopseg.scans.labels import canonical_name
from coopseg.scans.types import BACKGROUND, Scan
from coopseg.text import listing, shorten
from coopseg.versions import versions

WRAP = (
    "wrap it in a callable, in mine.py: session = onnxruntime.InferenceSession({file!r}); "
    "def segment(image, spacing): return to_labels(session.run(None, {{session.get_inputs()[0].name: "
    "to_input(image)}})[0]); then --predictor NAME=mine:segment"
)


def load_predictor_row(
    name: str, target: str, *, classes: tuple[str, ...], device: str, precision: str
) -> Subject:
    """What a target of --predictor means: a run folder or ONNX file of this package, or module:callable.

    classes: label names of the data set, background first. Raises CoopsegError where it cannot be had.
    """
    path = Path(target)
    if path.suffix == ".onnx" and path.is_file() and FORMAT.encode() not in path.read_bytes():
        raise CoopsegError(f"{path}: not written by `coopseg export`; {WRAP.format(file=path.name)}")
    if path.exists():
        on_processor = path.suffix == ".onnx"
        return load_subject(
            path, device="auto" if on_processor else device, precision="32" if on_processor else precision
        )
    if ":" not in target:
        raise CoopsegError(
            f"predictor {name}: {shorten(target)} is not there; give a file, a run folder or module:callable"
        )
    return wrap_callable(name, load_object(target), target=target, classes=classes)


def wrap_callable(name: str, found: Any, *, target: str, classes: tuple[str, ...]) -> Subject:
    """A Subject of `callable(image, spacing) -> labels`; a class is called once, without arguments.

    image: (X, Y, Z) float32 as stored in the scan; in copies by `coopseg corrupt` it lies in [0, 1]. spacing:
    (3,) float64, millimetres. labels: integers of the image's shape, 0 background, then in the order of
    `classes`, or as its attribute `labels` says, {"LV": 1, ...}. It is never called twice at once.
    """
    predict = found() if inspect.isclass(found) else found
    if not callable(predict):
        raise CoopsegError(f"predictor {name}: {target} cannot be called; give callable(image, spacing)")
    names = tuple(map(canonical_name, classes))
    table = _table(name, getattr(predict, "labels", None), names)
    facts = {
        "model": {"path": target, "sha256": None, "names": classes},
        "model_settings": None,
        "refinements": 0,
        "device": None,
        "precision": None,
        "scan_statistics": None,
        "training_ended": None,
        "versions": versions(),
        "command": sys.argv,
    }
    return Subject(_adapt(name, predict, table), classes, HEADS[0], True, facts, Path(name))


def _adapt(
    name: str, predict: Callable[..., Any], table: dict[int, int]
) -> Callable[[Scan, bool], dict[str, np.ndarray]]:
    def call(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        image = np.ascontiguousarray(scan.data, np.float32)
        labels = np.asarray(predict(image.copy(), scan.spacing))
        return {HEADS[0]: _indices(labels, table, shape=image.shape, where=f"{scan.path}: predictor {name}")}

    return call


def _table(name: str, labels: Any, names: tuple[str, ...]) -> dict[int, int]:
    """Class index of each value that the predictor may give."""
    if labels is None:
        return {index: index for index in range(len(names))}
    if not isinstance(labels, Mapping):
        raise CoopsegError(
            f'predictor {name}: labels is {shorten(labels)}; write it as {{"LV": 1, "MYO": 2}}'
        )
    table = {0: 0}
    for label, value in labels.items():
        if canonical_name(str(label)) not in names:
            raise CoopsegError(f"predictor {name}: label {shorten(label)} is not among {listing(names)}")
        table[int(value)] = names.index(canonical_name(str(label)))
    if missing := set(range(len(names))) - {*table.values(), names.index(BACKGROUND)}:
        lacking = [names[index] for index in sorted(missing)]
        raise CoopsegError(f"predictor {name}: its labels lack {listing(lacking)}; name every class")
    return table


def _indices(labels: np.ndarray, table: dict[int, int], *, shape: tuple[int, ...], where: str) -> np.ndarray:
    if labels.shape != shape:
        raise CoopsegError(f"{where} gave shape {labels.shape}, the image has {shape}; give the image's own")
    if labels.dtype.kind not in "iub":
        raise CoopsegError(f"{where} gave {labels.dtype}; give integers, such as by argmax")
    indices = np.zeros(shape, np.uint8)
    for value in np.unique(labels).tolist():
        if int(value) not in table:
            known = ", ".join(map(str, sorted(table)))
            raise CoopsegError(f"{where} gave label {value}, known are {known}; give it an attribute labels")
        indices[labels == value] = table[int(value)]
    return indices
