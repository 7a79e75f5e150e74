"""Writes corrupted copies of a labelled data set, as plain-folder data sets with a manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import SimpleITK

from coopseg.cases.prepare import (
    Record,
    blank_warning,
    check_scan,
    intensity_limits,
    look_at,
    prepare,
)
from coopseg.cases.splits import RUN
from coopseg.cases.steps import centre_start
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError, PartlyDone, enough_memory, first_of
from coopseg.evaluation.corruptions import (
    Corruption,
    Parameters,
    apply_corruption,
    corruption_generator,
    find_kinds,
    sample_corruption,
)
from coopseg.results.records import ManifestFile, RunFile, read_record
from coopseg.scans.files import UNFINISHED, write_atomically, write_json
from coopseg.scans.geometry import find_orientation, from_slices, slices_affine, to_slices
from coopseg.scans.journal import Volume, check_free, each_once, open_journal
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import notes_on, open_dataset
from coopseg.scans.load import check_labelled, load_label, load_scan
from coopseg.scans.nifti import write_image, write_labels, write_scan
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef
from coopseg.text import Json, merge_lines
from coopseg.workers import Map, choose_workers, end_if_imported, processes

Grid = Literal["scan", "published"]
MANIFEST = "manifest.json"
PACKAGES = ("coopseg", "torchio", "torch", "numpy", "scipy", "nibabel", "SimpleITK")


def corrupt_dataset(
    data: str | Path | Dataset,
    out: str | Path,
    *,
    copies: int = 3,
    seed: int = 0,
    severity: float = 1.0,
    settings: CaseSettings = CaseSettings(),
    kinds: str | Sequence[str] = "test",
    grid: Grid = "scan",
    workers: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    warn: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write OUT/<kind>/ for every kind: `copies` corrupted copies of each volume.

    Each OUT/<kind>/ is a data set in the plain-folder layout: images/ID_copyK.nii.gz (float32),
    labels/ID_copyK.nii.gz and dataset.json. Channels are corrupted together, if there are several, and
    written to images/ID_copyK_0000.nii.gz, ..._0001.nii.gz and so on, as nnU-Net wants them.
    OUT/manifest.json holds every severity, the settings, library versions and a SHA-256 of each image file.

    data: a folder in one of the known layouts, or an open data set. out: new or empty folder.
    grid: "scan" for copies that any model can take: grid, header, orientation, intensities and label values
    are the scan's own. "published" for copies that are prepared by `settings` before they are corrupted,
    that is resampled, cropped and scaled to [0, 1], with label values by the order of the label names.
    settings: the default is the published way. In the scan's grid their intensity rule says what the
    artefacts take for 0 and 1; nothing is clipped, and the scaling is undone.
    kinds: "test" (the published four), "choice" (five others, to choose settings by), or names of kinds.
    severity: see `sample_corruption`; 0 in the scan's grid copies the clean scans voxel for voxel.
    workers: processes, default one per core; files do not depend on it.
    overwrite: replace an earlier output (a folder with a manifest.json of ours), but nothing else.
    resume: go on in an `out` that an earlier call with the same arguments has left; copies that are whole,
    and made from files that have not changed, are not made again.
    progress: called as (volumes done, volumes in all, volume). warn: called with every line about a scan that
    a user should look at. note: called with a line that says how many volumes were done before.
    manifest.json is written last; done.jsonl lists what is done, as it is done. An earlier output goes only
    at the end. Returns the kinds' folders.
    Raises CoopsegError for a data set without volumes or with an unlabelled one, for an OUT that must not be
    replaced, for kinds or a grid that are unknown, for kinds named twice, for fewer than one copy, and if no
    volume can be used; OUT is then as it was. Raises PartlyDone, a CoopsegError, if only some volumes cannot
    be used, when the copies of the others are written.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=1, size=48)["acdc"]
    >>> found = corrupt_dataset(scans, folder / "copies", kinds="RandBias", copies=2, workers=1)
    >>> sorted(file.name for file in (found[0] / "images").glob("*_ED_*"))
    ['patientP001_ED_copy1.nii.gz', 'patientP001_ED_copy2.nii.gz']
    """
    end_if_imported()
    dataset, out = open_dataset(data, lost_too=True), Path(out)
    kinds = find_kinds(kinds)
    if grid not in get_args(Grid):
        raise CoopsegError(f"grid {grid!r} is not known; use {' or '.join(get_args(Grid))}")
    _check(dataset, out, copies=copies, overwrite=overwrite, resume=resume)
    count = choose_workers(workers, volumes=len(dataset.items))
    items: list[_Copy] = []
    noted: list[tuple[str, str]] = []
    failed: list[CoopsegError] = []
    with _target(out, replaced=overwrite and _is_filled(out)) as folder:
        job = _Job(dataset.labels, folder, kinds, copies, seed, severity, settings, grid)
        with (
            open_journal(folder, _Done, job.facts, resume=resume) as journal,
            processes(count, begin=_compute_alone) as side_by_side,
        ):
            work = partial(_side_by_side, side_by_side, job)
            found = each_once(journal, [(dataset, ref) for ref in dataset.items], work, job.files)
            for number, ((_, ref), done) in enumerate(found, start=1):
                if isinstance(done, CoopsegError):
                    failed.append(done)
                else:
                    items += done.copies
                    noted += [(ref.id, line) for line in done.warnings]
                if progress:
                    progress(number, len(dataset.items), ref.id)
            if not items:
                raise first_of(failed)
            for kind in kinds:
                write_json(folder / kind / "dataset.json", _description(dataset, job, kind, items))
            write_json(folder / MANIFEST, _manifest(dataset, job, items, failed))
    if note and (line := journal.describe_skipped("volume")):
        note(line)
    if warn:
        for line in (*notes_on(dataset), *merge_lines(noted)):
            warn(line)
    folders = [out / kind for kind in kinds]
    if failed:
        raise PartlyDone(failed, folders, out, len(dataset.items))
    return folders


@contextmanager
def _target(out: Path, *, replaced: bool) -> Iterator[Path]:
    """Yields the folder to fill: `out`, or one beside it that replaces it if the block raises nothing."""
    if not replaced:
        yield out
        return
    earlier = out.resolve()
    target = earlier.with_name(f".{earlier.name}.{os.getpid()}{UNFINISHED}")
    try:
        yield target
        shutil.rmtree(earlier)
        target.rename(earlier)
    finally:
        shutil.rmtree(target, ignore_errors=True)


@dataclass(frozen=True)
class _Job:
    """Holds what a worker needs to know besides the volume."""

    labels: Labels
    out: Path
    kinds: tuple[str, ...]
    copies: int
    seed: int
    severity: float
    settings: CaseSettings
    grid: Grid

    @property
    def facts(self) -> Json:
        """Returns all that every copy depends on besides its volume."""
        return {
            "seed": self.seed,
            "severity": self.severity,
            "copies": self.copies,
            "kinds": self.kinds,
            "grid": self.grid,
            "settings": self.settings.model_dump(mode="json"),
            "versions": {package: version(package) for package in PACKAGES},
        }

    def files(self, done: _Done) -> list[Path]:
        """Returns what was written for a volume."""
        return [
            self.out / copy.kind / name
            for copy in done.copies
            for name in (copy.image, *copy.more, copy.label)
        ]


def _check(dataset: Dataset, out: Path, *, copies: int, overwrite: bool, resume: bool) -> None:
    if copies < 1:
        raise CoopsegError(f"copies must be 1 or more, found {copies}")
    if not dataset.items:
        raise CoopsegError(f"{dataset.root}: no volumes to corrupt; check the path and the layout")
    check_labelled([dataset], "corrupt")
    if resume:
        if overwrite:
            raise CoopsegError("--resume goes on with an output, --overwrite replaces it; give one of them")
        check_free(out, resume=True)
        return
    if not _is_filled(out):
        return
    if not overwrite:
        raise CoopsegError(
            f"{out} exists and is not empty; choose another folder, or replace it with --overwrite, or go on "
            "in it with --resume"
        )
    read_record(ManifestFile, out / MANIFEST, f"{out} is not an earlier output; choose another folder")
    if dataset.root.resolve().is_relative_to(out.resolve()):
        raise CoopsegError(f"{out} holds the data set {dataset.root} itself; choose another folder")


def _is_filled(out: Path) -> bool:
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def _compute_alone() -> None:
    """Limits SimpleITK, with which TorchIO resamples, to one thread; by default it starts one per core."""
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


@dataclass(frozen=True)
class _Copy:
    """Holds the manifest's entry for one copy; paths lie below the kind's folder.

    more: files of further channels. sha256: of the files of all channels, one after another.
    """

    kind: str
    image: str
    more: tuple[str, ...]
    label: str
    patient: str
    session: str
    phase: str
    site: str
    copy: int
    parameters: Parameters
    sha256: str


@dataclass(frozen=True)
class _Done:
    """Holds what the journal notes of a volume: a manifest entry for each copy, and warnings."""

    copies: tuple[_Copy, ...]
    warnings: tuple[str, ...]


def _side_by_side(side_by_side: Map, job: _Job, volumes: Sequence[Volume]) -> Iterator[_Done | CoopsegError]:
    return side_by_side(partial(_corrupt_volume, job), [ref for _, ref in volumes])


def _corrupt_volume(job: _Job, ref: ScanRef) -> _Done | CoopsegError:
    """Write every kind and copy of one volume; returns the error of one that cannot be used."""
    try:
        with enough_memory("corrupting", ref.image):
            return _copies(job, ref)
    except CoopsegError as error:
        for kind, copy in product(job.kinds, range(1, job.copies + 1)):
            for name in (*_image_paths(ref, copy), _path("labels", ref, copy)):
                (job.out / kind / name).unlink(missing_ok=True)
        return error


def _copies(job: _Job, ref: ScanRef) -> _Done:
    source = _read(job, ref)
    copies = list(product(job.kinds, range(1, job.copies + 1)))
    _write_label([job.out / kind / _path("labels", ref, copy) for kind, copy in copies], source.label)
    entries = []
    for kind, copy in copies:
        generator = corruption_generator(job.seed, case=ref.id, kind=kind, copy=copy)
        corruption = sample_corruption(kind, generator, severity=job.severity)
        names, digest = _image_paths(ref, copy), hashlib.sha256()
        for name, channel in zip(names, source.corrupt(corruption).channels, strict=True):
            file = job.out / kind / name
            # not compressed: that would save a tenth of the bytes and take longer than the artefact
            if channel.header:
                write_scan(file, channel, level=0)
            else:
                write_image(file, channel.data, affine=channel.affine, level=0)
            digest.update(file.read_bytes())
        facts = (names[1:], _path("labels", ref, copy), ref.patient, ref.session, ref.phase, ref.site, copy)
        entries.append(_Copy(kind, names[0], *facts, corruption.parameters, digest.hexdigest()))
    return _Done(tuple(entries), source.warnings)


@dataclass(frozen=True)
class _Source:
    """Holds what the copies of a volume are made of; with headers if they are written in the scan's grid."""

    label: Scan
    warnings: tuple[str, ...]
    corrupt: Callable[[Corruption], Scan]


def _read(job: _Job, ref: ScanRef) -> _Source:
    scan, label = load_scan(ref), load_label(ref)
    assert label is not None  # checked before any volume was touched
    indices = labels_to_indices(label.data, job.labels, names=job.labels.names, path=ref.label)
    if job.grid == "scan":
        return _as_stored(scan, label, job.settings, normalised=ref.normalised)
    return _prepared(scan, indices, job.settings, names=job.labels.names, normalised=ref.normalised)


def _prepared(
    scan: Scan, indices: np.ndarray, settings: CaseSettings, *, names: Sequence[str], normalised: bool
) -> _Source:
    """Prepares a scan, so that its copies are resampled, cropped and scaled to [0, 1]."""
    case = prepare(scan, settings, label=indices, names=names, normalised=normalised)
    assert case.label is not None
    label = case_as_scan(case.label, scan=scan, record=case.record)
    _check_axis(label, case.record, settings)

    def corrupt(corruption: Corruption) -> Scan:
        channels = case.image.swapaxes(0, 1)
        found = apply_corruption(channels, corruption, spacing=case.record.spacing)
        first, *others = (case_as_scan(volume, scan=scan, record=case.record) for volume in found)
        return replace(first, more=tuple(other.data for other in others))

    return _Source(label, case.warnings, corrupt)


def _as_stored(scan: Scan, label: Scan, settings: CaseSettings, *, normalised: bool) -> _Source:
    """Takes a scan as it is. An artefact gets it scaled by `settings` but not clipped; that is undone."""
    check_scan(scan, label.data, normalised)
    warnings = look_at(scan, settings, normalised=normalised)
    limits = None if normalised else intensity_limits(scan, settings)
    warnings += blank_warning(scan, limits, settings)
    orientation = find_orientation(scan.affine, scan.data.shape, slice_axis=settings.slice_axis)
    pairs = limits or [(0.0, 1.0)] * len(scan.channels)
    low = np.array([pair[0] for pair in pairs], np.float32).reshape(-1, 1, 1, 1)
    span = np.array([pair[1] - pair[0] or 1 for pair in pairs], np.float32).reshape(-1, 1, 1, 1)

    def corrupt(corruption: Corruption) -> Scan:
        if corruption.is_none:  # scaling and undoing it would round
            return scan
        stored = np.stack([to_slices(channel.data, orientation) for channel in scan.channels])
        spacing = orientation.spacing(scan.spacing)
        # a data set that is said to be normalised has to stay in [0, 1]
        found = apply_corruption((stored - low) / span, corruption, spacing=spacing, rescale=normalised)
        first, *others = (from_slices(volume, orientation) for volume in found * span + low)
        return replace(scan, data=first, more=tuple(others))

    return _Source(label, warnings, corrupt)


def _check_axis(stored: Scan, record: Record, settings: CaseSettings) -> None:
    """Raises CoopsegError if a reader of the file would mistake another axis for the slice axis."""
    if (
        find_orientation(stored.affine, stored.data.shape, slice_axis=settings.slice_axis)
        != record.orientation
    ):
        raise CoopsegError(
            f"{stored.path}: once its pixels are resampled, another axis than {record.orientation.axes[0]}, "
            f"along which its slices lie, would be taken for theirs; set cases.slice_axis to "
            f"{record.orientation.axes[0]}"
        )


def case_as_scan(volume: np.ndarray, *, scan: Scan, record: Record) -> Scan:
    """Turns a volume in a case's grid into a scan that lies where the anatomy lies, axes stored as in `scan`.

    volume: (slices, H, W), in the grid of the case that `prepare` made of `scan` with this `record`.
    """
    grid = slices_affine(scan.affine, record.shape, record.orientation) @ _plane_to_stored(record)
    stored = from_slices(volume, record.orientation)
    affine = grid @ np.linalg.inv(slices_affine(np.eye(4), stored.shape, record.orientation))
    return Scan(stored, affine, scan.path)


def _plane_to_stored(record: Record) -> np.ndarray:
    """Returns (4, 4): maps (slice, row, column) of the case to indices of the scan before resampling."""
    index = np.eye(4)
    pairs = zip(record.plane, record.resampled, record.steps, record.size, strict=True)
    for axis, (length, resampled, step, size) in enumerate(pairs, start=1):
        index[axis, axis] = step
        # the centres of both planes coincide, and the crop begins at centre_start
        index[axis, 3] = (centre_start(resampled, size) - (resampled - 1) / 2) * step + (length - 1) / 2
    return index


def _path(folder: str, ref: ScanRef, copy: int, channel: str = "") -> str:
    return f"{folder}/{ref.id}_copy{copy}{channel}.nii.gz"


def _image_paths(ref: ScanRef, copy: int) -> tuple[str, ...]:
    """Returns the file of each channel below the kind's folder."""
    numbers = [f"_{number:04d}" for number in range(ref.channels)] if ref.channels > 1 else [""]
    return tuple(_path("images", ref, copy, number) for number in numbers)


def _write_label(paths: Sequence[Path], label: Scan) -> None:
    """Writes the label map, the same for every kind and copy: it is packed once, then written for each."""
    if label.header:
        write_scan(paths[0], label)
    else:
        write_labels(paths[0], label.data, like=label)
    content = paths[0].read_bytes()
    for path in paths[1:]:
        write_atomically(path, content)


def _description(dataset: Dataset, job: _Job, kind: str, entries: Sequence[_Copy]) -> Json:
    """Returns the content of dataset.json: names of label values, and facts that file names cannot hold."""
    several = len(dataset.channels) > 1
    keys = ("image", *(["more"] if several else []), "label", "patient", "session", "phase", "site", "copy")
    names, whole = dataset.labels.names, job.grid == "scan"
    values = dataset.labels.values if whole else range(len(names))
    channels = {"channel_names": dict(enumerate(dataset.channels))} if several else {}
    return {
        "name": kind,
        "grid": job.grid,
        **channels,
        "labels": dict(zip(names, values, strict=True)),
        "normalised": all(ref.normalised for ref in dataset.items) if whole else True,
        "items": [{key: getattr(entry, key) for key in keys} for entry in entries if entry.kind == kind],
    }


def intensities_of_run(folder: Path) -> Json:
    """Reads from run.json by which settings its training made intensities [0, 1]."""
    advice = "give the folder of a finished training"
    return read_record(RunFile, folder / RUN, advice).settings.cases.intensities


def intensities_of_copies(dataset: Dataset) -> Json | None:
    """Reads the same of copies, from the manifest.json beside their folder.

    None for any other data set, and for copies in the scan's grid, which have the intensities of their scans.
    """
    file = dataset.root.parent / MANIFEST
    if not file.is_file() or not any(ref.normalised for ref in dataset.items):
        return None
    found = read_record(ManifestFile, file, "make the copies anew by `coopseg corrupt`")
    return found.settings.intensities if found.grid == "published" else None


def _manifest(dataset: Dataset, job: _Job, entries: Sequence[_Copy], failed: Sequence[CoopsegError]) -> Json:
    return {
        "source": {"name": dataset.name, "layout": dataset.layout, "volumes": len(dataset.items)},
        **{key: value for key, value in job.facts.items() if key != "kinds"},
        "failed": [str(error) for error in failed],
        "volumes": [asdict(entry) for entry in entries],
    }
