"""Implements `predict`: writes label maps of scans in their own grids, and goes on where it was stopped."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from coopseg.cases.prepare import most_probable, prepare, restore
from coopseg.cases.splits import has_ended
from coopseg.cases.steps import edge_warning
from coopseg.dicom.convert import Given, pick_dicom
from coopseg.dicom.objects import write_objects
from coopseg.dicom.types import Stack
from coopseg.errors import CoopsegError, PartlyDone, enough_memory, first_of
from coopseg.inference.look import Segmented, write_pages
from coopseg.inference.model import Model, choose_device, choose_dtype, load_model
from coopseg.inference.predictor import HEADS, Predictor, stack_frames
from coopseg.inference.sources import body_of, group_channels, read_source, stamps
from coopseg.measures.frames import TRUE, check_spacing
from coopseg.measures.function import Measured
from coopseg.measures.mending import look_over, mend_heads, rules_for
from coopseg.measures.remarks import Remark, join_phases, remark_on
from coopseg.measures.write import measure_predictions
from coopseg.scans.colours import write_label_names
from coopseg.scans.discover import expand_scans
from coopseg.scans.files import write_json
from coopseg.scans.journal import check_free, open_journal
from coopseg.scans.names import stem
from coopseg.scans.nifti import read_labels, write_labels
from coopseg.scans.types import Scan
from coopseg.text import Json, counted
from coopseg.versions import versions

SUFFIX = {"FTN": "_ftn", "FTN+STN": "_stn"}  # ends of file names if both heads are written
BOTH = "both"
RECORD, OBJECTS = "predict.json", "dicom"


@dataclass(frozen=True)
class Predicted:
    """Describes one scan that is done.

    number: counts from 1. scan: for DICOM, which has no such file, its name below the study's folder.
    outputs: label map of each head. remarks: what to look at. dicom: whether it was DICOM.
    """

    number: int
    total: int
    scan: Path
    outputs: dict[str, Path]
    seconds: float
    remarks: tuple[Remark, ...]
    dicom: bool = False

    @property
    def shown(self) -> str:
        """Names the scan for messages: its file, or what a page calls it and the study."""
        return f"{stem(self.scan)} (DICOM in {self.scan.parent})" if self.dicom else str(self.scan)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Returns the remarks as one line each."""
        return tuple(each.text for each in self.remarks)


@dataclass(frozen=True)
class ModelFacts:
    """Names a model in a record; a predictor that is no model of this package has no hash."""

    path: str
    names: tuple[str, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class Facts:
    """Says what a prediction depends on, as predict.json and evaluation.json hold it; None is not known.

    anatomy: the rules by which label maps were mended, None if they were not.
    """

    model: ModelFacts
    model_settings: Json | None = None
    refinements: int = 0
    device: str | None = None
    precision: str | None = None
    scan_statistics: float | None = None
    anatomy: str | None = None
    training_ended: bool | None = None
    versions: Mapping[str, str] = field(default_factory=versions)
    command: Sequence[str] = field(default_factory=lambda: sys.argv)

    @property
    def deciding(self) -> Json:
        """Returns what every label map depends on, so that those of other settings are not mixed."""
        return {
            "model": self.model.sha256 or self.model.path,
            "refinements": self.refinements,
            "precision": self.precision,
            "scan statistics": self.scan_statistics,
            "anatomy": self.anatomy,
            "coopseg": self.versions["coopseg"],
        }

    def in_short(self, head: str) -> str:
        """Returns weights, head, and whether label maps were mended, in a few letters."""
        mended = "mended" if self.anatomy else ""
        return " ".join(part for part in ((self.model.sha256 or "")[:8], head, mended) if part)

    def in_words(self, head: str) -> dict[str, str]:
        """Returns the same for people to read. head: whose label maps are shown."""
        ended = {None: "", True: "", False: ", whose training has not ended"}[self.training_ended]
        words = {
            "model": f"{self.model.path}{ended}",
            "weights": f"SHA-256 {self.model.sha256[:16]}…" if self.model.sha256 else "",
            "head": head,
            "STN applied": counted(self.refinements, "time") if head == HEADS[1] else "",
            "precision": self.precision or "",
            "versions": ", ".join(f"{name} {self.versions[name]}" for name in ("coopseg", "torch")),
        }
        return {name: value for name, value in words.items() if value}


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
    ratios but no volumes. With both heads FTN+STN is measured. progress: called after each scan that was
    predicted. note: called with a line that says how many were done before.
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
    out, lost = Path(out), list[Path]()
    check_spacing(spacing)
    check_free(out, resume=resume)
    entries = [scans] if isinstance(scans, str | Path) else scans
    picked = pick_dicom(entries)
    paths, passed_over = expand_scans(picked.others, lost) if picked.others or not entries else ([], [])
    loaded, predictor = load_predictor(
        model,
        refinements=refinements,
        device=device,
        precision=precision,
        scan_statistics=scan_statistics,
        trust=trust,
    )
    heads = choose_heads(predictor, head)
    failed = [
        CoopsegError(f"{path}: a link to nothing; fetch what it links to or remove it") for path in lost
    ]
    failed += picked.refused
    groups = group_channels(paths, predictor.settings.network.channels) | picked.stacks
    if not groups:
        raise first_of(failed)
    targets = output_paths(list(groups), heads)
    facts = describe_predictor(loaded, predictor, precision=precision)
    facts = replace(facts, anatomy=rules_for(loaded.names) if anatomy else None)
    done: list[Predicted] = []
    with open_journal(out, Kept, facts.deciding | {"heads": heads}, resume=resume) as journal:
        for number, ((path, source), outputs) in enumerate(
            zip(groups.items(), targets, strict=True), start=1
        ):
            key, depends = os.path.abspath(path), [*stamps(source), *map(str, outputs.values())]
            files = {name: out / target for name, target in outputs.items()}
            made = partial(Predicted, number, len(groups), path, files, dicom=path in picked.stacks)
            if kept := journal.find(key, depends):
                done.append(made(kept.seconds, kept.remarks))
                continue
            start = time.monotonic()
            try:
                with enough_memory("segmenting", path):
                    scan, read_as = read_source(source, predictor.settings)
                    remarks = _predict_scan(
                        predictor,
                        scan,
                        outputs,
                        folder=out,
                        names=loaded.names,
                        anatomy=anatomy,
                        spacing=spacing,
                    )
            except CoopsegError as error:
                failed.append(error)
                continue
            seconds, remarks = time.monotonic() - start, remark_on(read_as) + remarks
            done.append(made(seconds, remarks))
            journal.add(key, depends, Kept(seconds, remarks), list(files.values()))
            if progress:
                progress(done[-1])
        if not done:
            raise first_of(failed)
        write_label_names(out, loaded.names)
        maps = [(entry.scan, entry.outputs[heads[-1]]) for entry in done]
        axis = predictor.settings.cases.slice_axis
        bodies = {scan: body_of(stack.origin) for scan, stack in picked.stacks.items()}
        patients = measure_predictions(
            out, maps, loaded.names, spacing=spacing, slice_axis=axis, bodies=bodies
        )
        if dicom:
            measured = {file: one.measured for one in patients for file in one.files}
            failed += _write_objects(
                out, picked, done, loaded.names, measured, head=heads[-1], made_by=facts.in_short(heads[-1])
            )
        described = {
            "scans": [_entry(entry, out, picked.stacks.get(entry.scan)) for entry in done],
            "failed": [str(error) for error in failed],
            "passed_over": [
                {"path": str(entry.path), "reason": entry.reason}
                for entry in (*passed_over, *picked.passed_over)
            ],
        }
        write_json(out / RECORD, asdict(facts) | {"head": head or heads[0]} | described)
        if page:
            write_pages(
                out,
                [
                    Segmented(
                        entry.scan,
                        entry.outputs[heads[-1]],
                        entry.remarks,
                        partial(read_source, groups[entry.scan], predictor.settings),
                    )
                    for entry in done
                ],
                patients,
                names=loaded.names,
                settings=predictor.settings.cases,
                provenance=facts.in_words(heads[-1]),
                spacing=spacing,
                failed=[str(error) for error in failed],
            )
    if note and (line := journal.describe_skipped("scan")):
        note(line)
    written = [path for entry in done for path in entry.outputs.values()]
    if failed:
        raise PartlyDone(failed, written, out, len(groups) + len(lost) + len(picked.refused))
    return written


@dataclass(frozen=True)
class Kept:
    """Holds what the journal notes of a scan that is done."""

    seconds: float
    remarks: tuple[Remark, ...]


def _write_objects(
    out: Path,
    picked: Given,
    done: Sequence[Predicted],
    names: Sequence[str],
    measured: Mapping[Path, Measured],
    *,
    head: str,
    made_by: str,
) -> list[CoopsegError]:
    """Writes SEG and SR of what was DICOM into OUT/dicom; returns the errors of those that fail."""
    failed = []
    for entry in done:
        if stack := picked.stacks.get(entry.scan):
            file = entry.outputs[head]
            below, found = out / OBJECTS / file.relative_to(out).parent, measured.get(file, Measured({}, ()))
            notes = found.notes + entry.warnings
            try:
                labels = read_labels(file).data
                write_objects(below, stack, labels, names, found.values, notes, made_by=made_by)
            except CoopsegError as error:
                failed.append(error)
    return failed


def load_predictor(
    model: str | Path,
    *,
    refinements: int = 1,
    device: str = "auto",
    precision: str = "32",
    scan_statistics: float | str | None = None,
    trust: Collection[str] = (),
) -> tuple[Model, Predictor]:
    """Loads a model from disk, ready to predict. Raises CoopsegError as `predict` does."""
    if refinements < 0:
        raise CoopsegError(f"refinements must be 0 or more, found {refinements}")
    choose_dtype(precision)
    if device == "auto" and Path(model).suffix == ".onnx":
        device = "cpu"
    loaded = load_model(model, choose_device(device), trust=trust)
    predictor = Predictor.from_model(
        loaded, refinements=refinements, precision=precision, scan_statistics=scan_statistics
    )
    return loaded, predictor


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


def describe_predictor(model: Model, predictor: Predictor, *, precision: str) -> Facts:
    """Returns what a prediction depends on, for records."""
    return Facts(
        ModelFacts(str(model.path), model.names, model.sha256),
        model_settings=model.settings.model_dump(mode="json"),
        refinements=predictor.refinements,
        device=str(predictor.device),
        precision=precision,
        scan_statistics=predictor.scan_statistics,
        training_ended=has_ended(model.path.parent),
    )


def _predict_scan(
    predictor: Predictor,
    scan: Scan,
    outputs: dict[str, Path],
    *,
    folder: Path,
    names: Sequence[str],
    anatomy: bool,
    spacing: str,
) -> tuple[Remark, ...]:
    """Writes the label maps of one scan below `folder`; returns what to look at."""
    moving, axis = scan.data.ndim == 4, predictor.settings.cases.slice_axis
    frames = [scan.frame(index) for index in range(scan.data.shape[3])] if moving else [scan]
    found = [_predict_frame(predictor, frame, tuple(outputs), names) for frame in frames]
    maps = stack_frames(labels for labels, _ in found) if moving else found[0][0]
    remarks = join_phases([remark_on(lines) for _, lines in found])
    if anatomy:
        maps, changed = mend_heads(maps, names, scan.affine, spacing=spacing, slice_axis=axis)
        remarks += remark_on(changed)
    for head, target in outputs.items():
        write_labels(folder / target, maps[head], like=scan, names=names)
    return remarks + look_over(maps[tuple(outputs)[-1]], names, scan.affine, spacing=spacing, slice_axis=axis)


def _predict_frame(
    predictor: Predictor, scan: Scan, heads: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    case = prepare(scan, predictor.settings.cases)
    probabilities = predictor.probabilities(case, heads)
    warnings = case.warnings + edge_warning(most_probable(probabilities[heads[-1]]), names)
    return {head: restore(probabilities[head], case.record) for head in heads}, warnings


def _entry(done: Predicted, out: Path, stack: Stack | None) -> Json:
    outputs = {head: str(path.relative_to(out)) for head, path in done.outputs.items()}
    return {
        "scan": str(done.scan),
        "outputs": outputs,
        "seconds": round(done.seconds, 3),
        "warnings": done.warnings,
        **({"dicom": stack.origin.identifiers} if stack else {}),
    }
