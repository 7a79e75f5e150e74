"""Describes what is evaluated: a model of this package, or any function from an image to a label map.

A subject also knows whether a data set is its own domain, corrupted or another site, and whether it was
trained on it.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from coopseg.cases.splits import ADAPTED, RUN, Split, split_of_run
from coopseg.config.resolve import load_object
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.evaluation.evaluate import Predict, Recall
from coopseg.inference.facts import Facts, ModelFacts, describe_calibration, describe_predictor
from coopseg.inference.judge import JudgedPredictor, find_calibration
from coopseg.inference.onnx_networks import FORMAT
from coopseg.inference.predictor import HEADS, load_predictor
from coopseg.scans.labels import canonical_name
from coopseg.scans.types import BACKGROUND, Dataset, Scan
from coopseg.text import listing, one_line, read_bytes, shorten
from coopseg.workers import one_thread

Domain = Literal["intra", "corrupted", "other"]
WRAP = (
    "wrap it in a callable, in mine.py: session = onnxruntime.InferenceSession({file!r}); "
    "def segment(image, spacing): return to_labels(session.run(None, {{session.get_inputs()[0].name: "
    "to_input(image)}})[0]); then --predictor NAME=mine:segment"
)


@dataclass(frozen=True)
class Subject:
    """Holds something that predicts, and what is known about it.

    predict, recall: see `coopseg.evaluation.evaluate.Predictions`, one of the two. names: its classes,
    background first. head: the one whose predictions are drawn. in_turn: two threads must not call it at
    once. facts: entries for the record. source: the folder of its training, or a name if there is none.
    trained: the split of its training, None if unknown. settings: how it prepares a scan. judge: predicts
    too, and says what Dice is expected, if that is known. assumed: a line on how the values that it gives are
    read, or why no Dice is expected.
    """

    predict: Predict | None
    names: tuple[str, ...]
    head: str
    in_turn: bool
    facts: Facts
    source: Path
    trained: Split | None = None
    settings: CaseSettings = field(default_factory=CaseSettings)
    recall: Recall | None = None
    judge: JudgedPredictor | None = None
    assumed: str = ""

    @property
    def made_elsewhere(self) -> bool:
        """Tells whether it is no model of this package."""
        return self.facts.model_settings is None

    def warnings(self, datasets: Sequence[Dataset]) -> tuple[str, ...]:
        """Returns a line for each data set with patients that, by name, it was trained or selected on."""
        said = (self.assumed,) if self.assumed else ()
        if self.made_elsewhere:
            unknown = "made elsewhere, so whether it was trained on these patients is unknown"
            return (*said, f"{self.facts.model.path}: {unknown}")
        if self.trained is None:
            unknown = "not found, so whether the model was trained on these patients is unknown"
            return (*said, f"{self.source / RUN}: {unknown}")
        warnings, known = [*said], {*self.trained.train, *self.trained.validate}
        if (self.source / ADAPTED).is_file():
            warnings.append(
                f"{self.source / ADAPTED}: the model was adapted to scans without their labels; where they "
                "are among these, the scores are for scans that it has seen"
            )
        for dataset in datasets:
            if len(dataset.channels) > 1 and self.settings.channels not in (None, dataset.channels):
                theirs, own = ", ".join(dataset.channels), ", ".join(self.settings.channels or ())
                warnings.append(
                    f"{dataset.name}: its channels are {theirs}, those of the training {own}; check that "
                    "they mean the same in the same order"
                )
            if seen := [patient for patient in dataset.patients if patient in known]:
                names = ", ".join(seen[:5]) + (" ..." if len(seen) > 5 else "")
                warnings.append(
                    f"{dataset.name}: {len(seen)} of {len(dataset.patients)} patients bear names of training "
                    f"or validation patients of the model ({names}); if they are the same, the scores are "
                    f"too good; --split {self.source} takes the model's test patients"
                )
        return tuple(warnings)


def load_subject(
    model: str | Path,
    *,
    refinements: int = 1,
    device: str = "auto",
    precision: str = "32",
    scan_statistics: float | str | None = None,
    trust: Collection[str] = (),
    quality: bool = True,
) -> Subject:
    """Loads a model from disk. quality: use its calibration, if there is one.

    Raises CoopsegError as `predict` does.
    """
    with one_thread():  # an ONNX session keeps the number of threads that it finds when it is opened
        loaded, predictor = load_predictor(
            model,
            refinements=refinements,
            device=device,
            precision=precision,
            scan_statistics=scan_statistics,
            trust=trust,
        )
    folder = loaded.path.parent
    calibration, why = find_calibration(loaded, predictor, predictor.default_head)
    facts = describe_predictor(loaded, predictor, precision=precision)
    return Subject(
        predict=predictor,
        names=loaded.names,
        head=predictor.default_head,
        in_turn=predictor.device.type != "cpu",
        judge=JudgedPredictor(predictor, calibration, loaded.names) if calibration and quality else None,
        facts=replace(facts, calibration=describe_calibration(calibration if quality else None)),
        source=folder,
        trained=split_of_run(folder) if (folder / RUN).is_file() else None,
        settings=predictor.settings.cases,
        assumed=why if quality and loaded.calibration else "",
    )


def find_domain(dataset: Dataset, trained: Split | None) -> Domain:
    """Returns what a data set is to a model that was trained with the split `trained`.

    "corrupted": all its volumes are copies by `corrupt`. "intra": the split names some of its patients.
    "other": neither.
    """
    if all(ref.copy for ref in dataset.items):
        return "corrupted"
    known = {*trained.train, *trained.validate, *trained.test} if trained else set()
    return "intra" if known & set(dataset.patients) else "other"


def load_target(
    name: str,
    target: str,
    *,
    classes: tuple[str, ...],
    device: str,
    precision: str,
    trust: Collection[str] = (),
) -> Subject:
    """Loads the target of --predictor: a run folder or ONNX file of this package, or module:callable.

    classes: label names of the data set, background first. trust: see `load_model`. Raises CoopsegError if
    it cannot be loaded.
    """
    path = Path(target)
    if path.suffix == ".onnx" and path.is_file() and FORMAT.encode() not in read_bytes(path):
        raise CoopsegError(f"{path}: not written by `coopseg export`; {WRAP.format(file=path.name)}")
    if path.exists():
        on_processor = path.suffix == ".onnx"
        return load_subject(
            path,
            device="auto" if on_processor else device,
            precision="32" if on_processor else precision,
            trust=trust,
        )
    if ":" not in target:
        raise CoopsegError(
            f"predictor {name}: {shorten(target)} is not there; give a file, a run folder or module:callable"
        )
    return wrap_callable(name, load_object(target), target=target, classes=classes)


def wrap_callable(name: str, found: Any, *, target: str, classes: tuple[str, ...]) -> Subject:
    """Makes a subject of `callable(image, spacing) -> labels`; a class is first called without arguments.

    image: (X, Y, Z) float32 as stored in the scan, (channels, X, Y, Z) if it has several channels; in copies
    by `coopseg corrupt --grid published` it lies in [0, 1]. spacing: (3,) float64, millimetres. labels:
    integers of the shape (X, Y, Z), 0 background, then in the order of `classes`, or as its attribute
    `labels` says, {"LV": 1, ...}. It is never called twice at once.
    """
    predict = found() if inspect.isclass(found) else found
    if not callable(predict):
        raise CoopsegError(f"predictor {name}: {target} cannot be called; give callable(image, spacing)")
    names = tuple(map(canonical_name, classes))
    table = _table(name, getattr(predict, "labels", None), names)

    def call(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        image = np.array([scan.data, *scan.more] if scan.more else scan.data, np.float32, order="C")  # a copy
        where = f"{scan.path}: predictor {name}"
        try:
            labels = np.asarray(predict(image, scan.spacing))
        except (CoopsegError, MemoryError):
            raise
        except Exception as error:
            raise CoopsegError(f"{where} failed: {type(error).__name__}: {one_line(error)}") from error
        return {HEADS[0]: _indices(labels, table, shape=scan.data.shape, where=where)}

    facts, assumed = Facts(ModelFacts(target, classes)), ""
    if getattr(predict, "labels", None) is None:
        order = ", ".join(f"{class_}={number}" for number, class_ in enumerate(names) if number)
        assumed = (
            f"predictor {name}: its values are taken for {order}; its attribute `labels` can say otherwise"
        )
    return Subject(call, classes, HEADS[0], True, facts, Path(name), assumed=assumed)


def _table(name: str, labels: Any, names: tuple[str, ...]) -> dict[int, int]:
    """Returns the class index of each value that the predictor may give."""
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
