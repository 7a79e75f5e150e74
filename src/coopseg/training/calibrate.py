"""Implements `calibrate`: fits what Dice a model's label maps are expected to have, and stores it with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from coopseg.cases.prepare import Case, prepare, restore
from coopseg.cases.splits import RUN, Part, Split, find_split, select_part, select_patients
from coopseg.cases.steps import minmax_slices
from coopseg.errors import CoopsegError, enough_memory
from coopseg.evaluation.corruptions import (
    CHOICE_KINDS,
    apply_corruption,
    corruption_generator,
    sample_corruption,
)
from coopseg.inference.model import store_calibration
from coopseg.inference.onnx_networks import OnnxNetworks
from coopseg.inference.predictor import Predictor, load_predictor
from coopseg.measures.overlap import dice
from coopseg.quality.calibration import (
    BAD,
    LEVEL,
    MISSED,
    Calibration,
    Judged,
    fit_lines,
    least_patients,
    mark_patient,
)
from coopseg.quality.distance import Reference, refer_to
from coopseg.quality.signs import read_signs
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import notes_on, open_dataset
from coopseg.scans.load import check_labelled, load_label, load_scan
from coopseg.scans.types import Dataset, ScanRef
from coopseg.text import counted, listing, merge_lines
from coopseg.training.origin import Origin, find_split_of, open_origin
from coopseg.workers import Map, choose_workers, one_thread, threads

CLEAN = "clean"


def calibrate(
    model: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    split: str | Path | None = None,
    part: Part = "test",
    layout: str = "auto",
    labels: str | None = None,
    head: str | None = None,
    refinements: int = 1,
    device: str = "auto",
    scan_statistics: float | str | None = None,
    trust: Collection[str] = (),
    bad: float = BAD,
    missed: float = MISSED,
    level: float = LEVEL,
    workers: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Calibration:
    """Fits the Dice that a model's label maps are expected to have, and stores it in the model's file.

    `predict` then says what it expects of each label map, and flags those that a person should look at.
    model: run folder or weight file. data: labelled scans that the model was not trained on, a folder or an
    open data set; by default the validation patients of the training, whose data must be where it was. Each
    volume is predicted as it is and with one artefact of each of CHOICE_KINDS, which are not those of the
    published test. split, part: as for `evaluate_model`. layout, labels: see `open_dataset`. head: whose
    label maps are judged, by default the model's. refinements, scan_statistics: as for `predict`, which must
    be called with the same. trust: see `load_model`. bad: mean Dice below which a label map is bad. missed:
    probability with which a bad one may go unflagged. level: share of true values that the interval should
    hold. workers: volumes at once, default one per core. progress: called as (volumes done, volumes in all,
    volume). warn: called with every line that a user should read.
    Raises CoopsegError for an ONNX file, fewer than two patients, and as `predict` and `open_dataset` do; the
    model's file is then as it was.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=5, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> found = calibrate(run, scans, device="cpu")
    >>> found.patients, list(found.lines), coopseg.load_model(run).calibration == found
    (2, ['RV', 'MYO', 'LV'], True)
    """
    for name, value in (("bad", bad), ("missed", missed), ("level", level)):
        if not 0 < value < 1:
            raise CoopsegError(f"{name} must lie between 0 and 1, found {value}")
    with one_thread():
        loaded, predictor = load_predictor(
            model, refinements=refinements, device=device, scan_statistics=scan_statistics, trust=trust
        )
    if isinstance(predictor.networks, OnnxNetworks):
        raise CoopsegError(
            f"{loaded.path}: an ONNX file does not show its codes; calibrate the run folder it was made from"
        )
    head = head or predictor.default_head
    if head not in predictor.heads:
        raise CoopsegError(f"head {head!r} is not there; use {' or '.join(predictor.heads)}")
    say = warn or (lambda line: None)
    folder = loaded.path.parent
    divided, training = find_split_of(folder), open_origin(folder)
    if isinstance(training, str) and data is None:
        raise CoopsegError(f"{training}; give labelled scans of other patients by --data")
    if divided is None:
        say(f"{folder / RUN}: not found, so whether the model was trained on these patients is unknown")
    dataset = _choose(data, training, divided, split, part, layout, labels, say)
    check_labelled([dataset], "calibrate")
    if len(dataset.patients) < 2:
        raise CoopsegError(
            f"{dataset.root}: one patient is too few to calibrate with; give two or more, better ten"
        )
    judge = partial(_judge, predictor, dataset, loaded.names, head)
    found = list[_Found]()
    with threads(choose_workers(workers, volumes=len(dataset.items))) as side_by_side:
        for number, one in enumerate(side_by_side(judge, dataset.items), start=1):
            found.append(one)
            if progress:
                progress(number, len(dataset.items), one.name)
        reference = _refer(training, predictor, found, side_by_side, say)
    for line in (*notes_on(dataset), *merge_lines([(o.name, line) for o in found for line in o.warnings])):
        say(line)
    judged = [each for one in found for each in one.judged]
    signs = tuple(judged[0].signs)
    fitted = fit_lines(judged, signs, loaded.names[1:], bad=bad, missed=missed, level=level)
    if any(line.reach is None for line in fitted.lines.values()):
        say(
            f"{counted(len(dataset.patients), 'patient')}: too few for an interval that holds with "
            f"probability {level:g}, which needs {least_patients(level)}; the estimate has none"
        )
    calibration = Calibration(
        head=head,
        signs=signs,
        lines=fitted.lines,
        bad=bad,
        limit=fitted.limit,
        missed=missed,
        level=level,
        patients=len(dataset.patients),
        source=f"{dataset.name}, {counted(len(dataset.items), 'volume')}, as they are and with "
        f"{len(CHOICE_KINDS)} artefacts",
        made=time.strftime("%Y-%m-%d"),
        known=tuple(sorted(map(mark_patient, dataset.patients))),
        scan_statistics=predictor.scan_statistics,
        refinements=predictor.refinements,
        skill=fitted.skill,
        reference=reference,
    )
    if calibration.caution:
        say(calibration.caution)
    if loaded.calibration:
        say(f"replaces the calibration {loaded.calibration.describe()}")
    store_calibration(loaded.path, calibration)
    return calibration


def _choose(
    data: str | Path | Dataset | None,
    training: Origin | str,
    divided: Split | None,
    split: str | Path | None,
    part: Part,
    layout: str,
    labels: str | None,
    say: Callable[[str], None],
) -> Dataset:
    """Returns the volumes to calibrate with; none of a patient who bears the name of a trained one."""
    if data is None:
        assert isinstance(training, Origin)
        return select_patients(training.dataset, training.split.validate)
    dataset = open_dataset(data, layout=layout, labels=labels)
    if split is not None:
        dataset = select_part(dataset, find_split(split), part)
    trained = divided.train if divided else ()
    if known := [patient for patient in dataset.patients if patient in trained]:
        others = [patient for patient in dataset.patients if patient not in trained]
        say(
            f"{dataset.name}: {counted(len(known), 'patient')} left out, whose names are those of training "
            f"patients: {listing(known, most=5)}"
        )
        dataset = select_patients(dataset, others)
    return dataset


@dataclass(frozen=True)
class _Found:
    """Holds what was found of a volume, as it is and with artefacts, and its code as it is.

    warnings: what a user should look at in the scan.
    """

    name: str
    judged: list[Judged]
    code: np.ndarray
    warnings: tuple[str, ...]


def _judge(predictor: Predictor, dataset: Dataset, names: tuple[str, ...], head: str, ref: ScanRef) -> _Found:
    """Predicts a volume as it is and with one artefact of each kind, and compares with its label."""
    with enough_memory("segmenting", ref.image):
        scan, label = load_scan(ref), load_label(ref)
        assert label is not None  # checked before any volume was touched
        target = labels_to_indices(label.data, dataset.labels, names=names, path=ref.label)
        clean = prepare(scan, predictor.settings.cases, normalised=ref.normalised)
        there = np.isin(np.arange(1, len(names)), target)
        judged, code = [], np.zeros(0)
        for kind in (CLEAN, *CHOICE_KINDS):
            case = clean if kind == CLEAN else corrupted(clean, kind, ref.id)
            opinions = predictor.opinions(case)
            if kind == CLEAN:
                code = opinions.code
            found = restore(opinions.probabilities[head], case.record)
            scores = dice(found, target, classes=range(1, len(names)))
            signs = read_signs(opinions, head, names)
            judged.append(Judged(ref.patient, signs, scores, opinions.found(head), there))
        return _Found(ref.id, judged, code, clean.warnings)


def corrupted(case: Case, kind: str, name: str) -> Case:
    """Returns a case with an artefact, as `corrupt --grid published` would make it."""
    corruption = sample_corruption(kind, corruption_generator(0, case=name, kind=kind, copy=1))
    image = apply_corruption(case.image.swapaxes(0, 1), corruption, spacing=case.record.spacing)
    return replace(case, image=np.stack([minmax_slices(channel) for channel in image], axis=1))


def _refer(
    training: Origin | str,
    predictor: Predictor,
    found: Sequence[_Found],
    side_by_side: Map,
    say: Callable[[str], None],
) -> Reference | None:
    """Measures the codes of the training scans, if these are at hand and networks show their codes."""
    if not found[0].code.size:
        return None
    if isinstance(training, str):
        say(f"{training}: predict will not say which scans are unlike those of the training")
        return None
    scans = select_patients(training.dataset, training.split.train).items
    codes = list(side_by_side(partial(_code, predictor), scans))
    return refer_to(codes, [one.code for one in found])


def _code(predictor: Predictor, ref: ScanRef) -> np.ndarray:
    case = prepare(load_scan(ref), predictor.settings.cases, normalised=ref.normalised)
    return predictor.opinions(case, draws=0).code
