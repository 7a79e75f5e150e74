"""Implements `predict`: writes label maps of scans in their own grids, and goes on where it was stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from coopseg.cases.prepare import most_probable, prepare, restore
from coopseg.cases.steps import edge_warning
from coopseg.dicom.objects import write_objects
from coopseg.dicom.types import Stack
from coopseg.errors import CoopsegError, PartlyDone, enough_memory, first_of
from coopseg.inference.facts import Facts, describe_calibration, describe_predictor
from coopseg.inference.judge import find_calibration, judge
from coopseg.inference.look import Segmented, write_pages
from coopseg.inference.predictor import HEADS, Predictor, load_predictor, stack_frames
from coopseg.inference.sources import Source, body_of, find_sources, read_source, stamps
from coopseg.measures.frames import TRUE, check_spacing
from coopseg.measures.mending import look_over, mend_heads, rules_for
from coopseg.measures.patients import Patient
from coopseg.measures.remarks import Order, Remark, join_phases, remark_on
from coopseg.measures.write import measure_predictions, show_value
from coopseg.quality.calibration import Calibration, Expected
from coopseg.quality.opinions import DRAWS
from coopseg.scans.colours import write_label_names
from coopseg.scans.files import write_json
from coopseg.scans.geometry import SliceAxis
from coopseg.scans.journal import Journal, check_free, open_journal
from coopseg.scans.names import stem
from coopseg.scans.nifti import read_labels, write_labels
from coopseg.scans.types import Scan
from coopseg.text import Json, counted

SUFFIX = {"FTN": "_ftn", "FTN+STN": "_stn"}  # ends of file names if both heads are written
BOTH = "both"
RECORD, OBJECTS = "predict.json", "dicom"


@dataclass(frozen=True)
class Found:
    """Holds what was found of a scan. remarks: what to look at. expected: Dice of each phase, if known."""

    remarks: tuple[Remark, ...]
    expected: tuple[Expected, ...] = ()

    @property
    def flagged(self) -> bool:
        """Tells whether a phase is flagged."""
        return any(each.flagged for each in self.expected)


@dataclass(frozen=True)
class Predicted:
    """Describes one scan that is done.

    number: counts from 1. scan: for DICOM, which has no such file, its name below the study's folder.
    outputs: label map of each head. dicom: whether it was DICOM.
    """

    number: int
    total: int
    scan: Path
    outputs: dict[str, Path]
    seconds: float
    found: Found
    dicom: bool = False

    @property
    def shown(self) -> str:
        """Names the scan for messages: its file, or what a page calls it and the study."""
        return f"{stem(self.scan)} (DICOM in {self.scan.parent})" if self.dicom else str(self.scan)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Returns the remarks as one line each."""
        return tuple(each.text for each in self.found.remarks)


def choose_heads(predictor: Predictor, head: str | None) -> tuple[str, ...]:
    """Returns the heads to write; see `predict`. Raises CoopsegError for one that the model lacks."""
    if head is None:
        return (predictor.default_head,)
    if head not in (*HEADS, BOTH):
        raise CoopsegError(f"head {head!r} is not known; use {', '.join(HEADS)} or {BOTH}")
    wanted = HEADS if head == BOTH else (head,)
    if not set(wanted) <= set(predictor.heads):
        reason = "refinements are 0" if predictor.settings.losses.stn else "the model was trained without STN"
        raise CoopsegError(f"head {head!r} is not there since {reason}; use FTN")
    return wanted


def output_paths(scans: Sequence[Path], heads: Sequence[str]) -> list[dict[str, Path]]:
    """Returns where each scan's label maps go below the output folder, by head; see `predict`.

    Raises CoopsegError if two scans would be written to one file.
    """
    full = [Path(os.path.abspath(scan)) for scan in scans]
    shared = os.path.commonpath([scan.parent for scan in full])
    taken: dict[Path, Path] = {}
    targets = []
    for scan, path in zip(scans, full, strict=True):
        below = path.parent.relative_to(shared)
        suffixes = {head: SUFFIX[head] if len(heads) > 1 else "" for head in heads}
        targets.append({head: below / f"{stem(path)}{suffix}.nii.gz" for head, suffix in suffixes.items()})
        for target in targets[-1].values():
            if target in taken:
                raise CoopsegError(
                    f"{scan}: would be written to {target}, as {taken[target]}; rename one of them"
                )
            taken[target] = scan
    return targets


def predict(
    model: str | Path,
    scans: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    head: str | None = None,
    refinements: int = 1,
    device: str = "auto",
    precision: str = "32",
    scan_statistics: float | str | None = None,
    trust: Collection[str] = (),
    resume: bool = False,
    page: bool = False,
    dicom: bool = False,
    anatomy: bool = False,
    spacing: str = TRUE,
    quality: bool = True,
    progress: Callable[[Predicted], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write a label map for every scan; returns their paths.

    model: run folder or weight file. scans: files, folders and patterns, see `expand_scans`; 3-D or 4-D. A
    folder of DICOM without NIfTI, or a zip file, stands for the files that `import_dicom` would write. A
    model of several channels takes CASE_0000, CASE_0001, ... for one scan CASE, and a file without such a
    number with its channels along the fourth axis.
    out: new or empty folder. A label map, NAME.nii.gz, has the scan's path below the folder that all scans
    share. It holds uint8 class indices in the scan's own grid, 4-D for a 4-D scan. labels.json names the
    indices (see `write_label_names`, also for viewers); predict.json records model, versions, each scan's
    seconds and warnings, what a scan of DICOM was made from, and the files that were passed over.
    measures.csv has volumes, ejection fractions and mass of each patient, and measures.json also every phase
    (see `coopseg.measure`).
    head: "FTN", "FTN+STN" or "both" (NAME_ftn.nii.gz and NAME_stn.nii.gz); by default the one that the model
    names (prediction.head), FTN without an STN. refinements: how often the STN is applied; 0 for the FTN
    alone. device: "auto", "cpu", "cuda" or "mps". precision: "32" or "bf16". scan_statistics: K or "off" in
    place of the model's prediction.scan_statistics. trust: see `load_model`. resume: go on in an `out` that
    an earlier call with the same model and settings has left; what is whole there, and made from scans that
    have not changed, is not made again. done.jsonl in `out` lists what is done, as it is done. page: also
    write PATIENT.html for each patient and index.html, see `write_pages`. dicom: also write what was made of
    DICOM as DICOM, SEG and SR, into OUT/dicom. anatomy: mend the label maps, see `mend`; each scan's
    warnings say what was changed. spacing: "nominal" if the headers hold no true spacing; then there are
    ratios but no volumes. With both heads FTN+STN is measured. quality: say what Dice is expected of each
    label map, and which a person should look at, if the model is calibrated (see `calibrate`); this takes up
    to twice the time. progress: called after each scan that was predicted. note: called with a line that says
    how many were done before, and with one that says how many are flagged, or why no Dice is expected.
    Raises CoopsegError for anything wrong with model or folder, or with every scan; `out` is then as it was.
    Raises PartlyDone, a CoopsegError, if only some scans cannot be used, when the others are done.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> scan = scans / "patientP001" / "patientP001_frame01.nii.gz"
    >>> [file.name for file in predict(run, scan, folder / "labels", device="cpu")]
    ['patientP001_frame01.nii.gz']
    """
    out = Path(out)
    check_spacing(spacing)
    check_free(out, resume=resume)
    loaded, predictor = load_predictor(
        model,
        refinements=refinements,
        device=device,
        precision=precision,
        scan_statistics=scan_statistics,
        trust=trust,
    )
    heads = choose_heads(predictor, head)
    given = find_sources(scans, predictor.settings)
    failed = [*given.failed]
    targets = dict(zip(given.found, output_paths(list(given.found), heads), strict=True))
    facts = describe_predictor(loaded, predictor, precision=precision)
    calibration, missing = find_calibration(loaded, predictor, heads[-1]) if quality else (None, "")
    facts = replace(
        facts,
        anatomy=rules_for(loaded.names) if anatomy else None,
        calibration=describe_calibration(calibration),
    )
    job = _Job(out, predictor, loaded.names, heads, facts, given.found, targets, spacing, calibration)
    with open_journal(out, Kept, facts.deciding | {"heads": heads}, resume=resume) as journal:
        done = _segment_all(job, journal, failed, progress)
        if not done:
            raise first_of(failed)
        write_label_names(out, loaded.names)
        patients = _measure(job, done)
        if dicom:
            failed += _write_objects(job, done, patients)
        described = {
            "scans": [_entry(job, entry) for entry in done],
            "failed": [str(error) for error in failed],
            "passed_over": [{"path": str(entry.path), "reason": entry.reason} for entry in given.passed_over],
        }
        write_json(out / RECORD, asdict(facts) | {"head": head or heads[0]} | described)
        if page:
            _write_pages(job, done, patients, failed)
    if calibration:
        number = sum(entry.found.flagged for entry in done)
        missing = (
            f"{number} of {counted(len(done), 'scan')} flagged: expected Dice below {calibration.limit:.2f}"
            + (f"; {calibration.caution}" if calibration.caution else "")
        )
    for line in (journal.describe_skipped("scan"), missing):
        if note and line:
            note(line)
    written = [path for entry in done for path in entry.outputs.values()]
    if failed:
        raise PartlyDone(failed, written, out, given.total)
    return written


@dataclass(frozen=True)
class Kept:
    """Holds what the journal notes of a scan that is done."""

    seconds: float
    found: Found


@dataclass(frozen=True)
class _Job:
    """Holds what the steps of one call of `predict` share.

    heads: those to write, of which the last is measured and shown. sources, targets: what each scan is read
    from, and where below `out` its label maps go, by the name of the scan.
    """

    out: Path
    predictor: Predictor
    names: tuple[str, ...]
    heads: tuple[str, ...]
    facts: Facts
    sources: Mapping[Path, Source]
    targets: Mapping[Path, dict[str, Path]]
    spacing: str
    calibration: Calibration | None

    @property
    def shown(self) -> str:
        """Returns the head that is measured and shown."""
        return self.heads[-1]

    @property
    def slice_axis(self) -> SliceAxis:
        """Returns how the model finds the axis of the slices."""
        return self.predictor.settings.cases.slice_axis

    def stack(self, scan: Path) -> Stack | None:
        """Returns the DICOM that a scan is, if it is DICOM."""
        source = self.sources[scan]
        return source if isinstance(source, Stack) else None


def _segment_all(
    job: _Job,
    journal: Journal[Kept],
    failed: list[CoopsegError],
    progress: Callable[[Predicted], None] | None,
) -> list[Predicted]:
    """Writes the label maps that are not there yet; returns all that are. failed: gets an error a scan."""
    done: list[Predicted] = []
    for number, (scan, source) in enumerate(job.sources.items(), start=1):
        key, depends = os.path.abspath(scan), [*stamps(source), *map(str, job.targets[scan].values())]
        files = {head: job.out / target for head, target in job.targets[scan].items()}
        made = partial(Predicted, number, len(job.sources), scan, files, dicom=isinstance(source, Stack))
        if kept := journal.find(key, depends):
            done.append(made(kept.seconds, kept.found))
            continue
        start = time.monotonic()
        try:
            with enough_memory("segmenting", scan):
                found = _segment(job, source, files)
        except CoopsegError as error:
            failed.append(error)
            continue
        done.append(made(time.monotonic() - start, found))
        journal.add(key, depends, Kept(done[-1].seconds, found), list(files.values()))
        if progress:
            progress(done[-1])
    return done


def _segment(job: _Job, source: Source, files: Mapping[str, Path]) -> Found:
    """Reads a scan and writes its label map by each head; returns what to look at and what is expected."""
    scan, read_as = read_source(source, job.predictor.settings)
    moving = scan.data.ndim == 4
    frames = [scan.frame(index) for index in range(scan.data.shape[3])] if moving else [scan]
    found = [_segment_frame(job, frame) for frame in frames]
    maps = stack_frames(frame.heads for frame in found) if moving else found[0].heads
    remarks = remark_on(read_as, lambda _: Order.SCAN) + join_phases([frame.remarks for frame in found])
    spacing, axis = job.spacing, job.slice_axis
    if job.facts.anatomy:
        maps, changed = mend_heads(maps, job.names, scan.affine, spacing=spacing, slice_axis=axis)
        remarks += changed
    for head, file in files.items():
        write_labels(file, maps[head], like=scan, names=job.names)
    remarks += look_over(maps[job.shown], job.names, scan.affine, spacing=spacing, slice_axis=axis)
    remarks = tuple(sorted(remarks, key=lambda each: each.order))
    return Found(remarks, tuple(frame.expected for frame in found if frame.expected))


@dataclass(frozen=True)
class _Frame:
    """Holds the label maps of a frame by head, what to look at in it, and what is expected of it."""

    heads: dict[str, np.ndarray]
    remarks: tuple[Remark, ...]
    expected: Expected | None = None


def _segment_frame(job: _Job, scan: Scan) -> _Frame:
    case = prepare(scan, job.predictor.settings.cases)
    opinions = job.predictor.opinions(case, draws=DRAWS if job.calibration else 0)
    probabilities = opinions.probabilities
    edges = edge_warning(most_probable(probabilities[job.shown]), job.names)
    remarks = remark_on(case.warnings, lambda _: Order.SCAN) + remark_on(edges)
    heads = {head: restore(probabilities[head], case.record) for head in job.heads}
    if job.calibration is None:
        return _Frame(heads, remarks)
    expected, doubts = judge(opinions, job.calibration, job.names)
    return _Frame(heads, remarks + doubts, expected)


def _measure(job: _Job, done: Sequence[Predicted]) -> list[Patient]:
    """Writes measures.csv and measures.json; returns the patients that were measured."""
    maps = [(entry.scan, entry.outputs[job.shown]) for entry in done]
    stacks = {entry.scan: job.stack(entry.scan) for entry in done}
    bodies = {scan: body_of(stack.origin) for scan, stack in stacks.items() if stack}
    return measure_predictions(
        job.out, maps, job.names, spacing=job.spacing, slice_axis=job.slice_axis, bodies=bodies
    )


def _write_objects(job: _Job, done: Sequence[Predicted], patients: Sequence[Patient]) -> list[CoopsegError]:
    """Writes SEG and SR of what was DICOM into OUT/dicom; returns the errors of those that fail."""
    measured = {file: one for one in patients for file in one.files}
    made_by, failed = job.facts.in_short(job.shown), list[CoopsegError]()
    for entry in done:
        if stack := job.stack(entry.scan):
            file = entry.outputs[job.shown]
            below, one = job.out / OBJECTS / file.relative_to(job.out).parent, measured.get(file)
            values, notes = (one.measured.values, one.measured.notes) if one else ({}, ())
            phases = _phases(one) if one and len(one.files) == 1 else {}
            notes = (job.facts.in_a_line(job.shown), *notes, *entry.warnings)
            try:
                labels, rounded = read_labels(file).data, _rounded(values)
                write_objects(below, stack, labels, job.names, rounded, notes, phases, made_by=made_by)
            except CoopsegError as error:
                failed.append(error)
    return failed


def _rounded(values: Mapping[str, float | str | None]) -> dict[str, float | str | None]:
    """Returns measures with the decimals that measures.csv has, so that both say the same."""
    return {
        name: float(show_value(value, name)) if isinstance(value, float) else value
        for name, value in values.items()
    }


def _phases(patient: Patient) -> dict[str, int]:
    found = {phase: patient.find_frame(phase) for phase in ("ed", "es")}
    return {phase: frame for phase, frame in found.items() if frame is not None}


def _write_pages(
    job: _Job, done: Sequence[Predicted], patients: Sequence[Patient], failed: Sequence[CoopsegError]
) -> None:
    settings = job.predictor.settings
    segmented = [
        Segmented(
            entry.scan,
            entry.outputs[job.shown],
            entry.found.remarks,
            partial(read_source, job.sources[entry.scan], settings),
            entry.found.expected,
            stack.origin.slices if (stack := job.stack(entry.scan)) else (),
        )
        for entry in done
    ]
    write_pages(
        job.out,
        segmented,
        patients,
        names=job.names,
        settings=settings.cases,
        provenance=job.facts.in_words(job.shown),
        spacing=job.spacing,
        failed=[str(error) for error in failed],
    )


def _entry(job: _Job, done: Predicted) -> Json:
    stack = job.stack(done.scan)
    return {
        "scan": str(done.scan.parent if stack else done.scan),  # what was given: of DICOM, folder or zip file
        "outputs": {head: str(path.relative_to(job.out)) for head, path in done.outputs.items()},
        "seconds": round(done.seconds, 3),
        "warnings": done.warnings,
        **({"expected": [asdict(each) for each in done.found.expected]} if job.calibration else {}),
        **({"dicom": stack.origin.identifiers} if stack else {}),
    }
