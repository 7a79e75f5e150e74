"""Opens what a benchmark is trained and tested on, once: splits, test patients, copies, other sites."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from coopseg.benchmark.grid import SCAN_GRID
from coopseg.benchmark.request import Request
from coopseg.cases.splits import NAMED, PARTS, Split, get_split, select_patients
from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError
from coopseg.evaluation.corrupt import MANIFEST, Grid, corrupt_dataset
from coopseg.evaluation.corruptions import KINDS
from coopseg.evaluation.run import open_datasets
from coopseg.results.columns import IN_SCAN_GRID, NO_ARTEFACT
from coopseg.results.records import ManifestFile, read_record
from coopseg.results.study import WHOLE
from coopseg.scans.files import write_json
from coopseg.scans.types import Dataset
from coopseg.text import whole_number

CORRUPTED, SEVERE, SPLITS = "corrupted", "severities", "splits"
RANDOM = "random"


@dataclass(frozen=True)
class Data:
    """Holds the opened data sets of a request: its own, which is trained and tested on, and other sites'."""

    request: Request
    own: Dataset
    others: tuple[Dataset, ...]

    @property
    def tested(self) -> tuple[str, ...]:
        """Returns the test patients of all draws, each once."""
        splits = [self.split(draw) for draw in self.request.draws or (WHOLE,)]
        return tuple(dict.fromkeys(patient for split in splits for patient in split.test))

    def split(self, draw: str) -> Split:
        """Returns the split of a draw. Raises CoopsegError if it is unknown or has an empty part."""
        if self.request.split == RANDOM:
            number = 0 if draw == WHOLE else whole_number(draw)
            if number is None:
                raise CoopsegError(
                    f"draw {draw!r}: draws of a random split are numbers, such as --draws 0,1,2"
                )
            split = get_split(RANDOM, self.own, seed=number)
        else:
            split = get_split(split_name(self.request, draw), self.own)
        for part in PARTS:
            split.require(part)
        return split

    def write_split(self, bench: Path, draw: str) -> str:
        """Returns the name or file by which `coopseg.train` finds the split of a draw.

        A random split is written to BENCH/splits: the seed of a training would otherwise draw another.
        """
        if self.request.split != RANDOM:
            return split_name(self.request, draw)
        path, split = bench / SPLITS / f"{draw}.json", self.split(draw)
        if not path.is_file():
            write_json(path, {part: getattr(split, part) for part in PARTS})
        return str(path.resolve())

    def test_sets(self, bench: Path, patients: Sequence[str]) -> list[Dataset]:
        """Returns the test patients as they are, their published copies, and all patients of other sites."""
        own = [self.own, *open_datasets(bench / CORRUPTED)]
        return [*(select_patients(each, patients) for each in own), *self.others]

    def predictor_sets(self, bench: Path, patients: Sequence[str]) -> list[Dataset]:
        """Returns the same with copies in the scan's grid: no other model is made for published ones."""
        return [select_patients(self.own, patients), *scan_grid_sets(bench, patients), *self.others]


def open_data(request: Request) -> Data:
    """Opens the data sets of a request.

    Raises CoopsegError if data, draws or names of data sets cannot be used.
    """
    opened = partial(open_datasets, layout=request.layout, labels=request.labels)
    own, cross = opened(request.data)[0], request.cross
    others = [] if cross is None else opened(cross, rename=False)  # these keep names of their own
    names = [own.name, *KINDS, *(other.name for other in others)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CoopsegError(f"two data sets are called {twice!r}; name them, as --cross NAME=FOLDER")
    data = Data(request, own, tuple(others))
    for draw in request.draws:
        data.split(draw)  # raises now rather than in a job
    return data


def corrupt_tested(
    bench: Path, data: Data, *, progress: Callable[[int, int, str], None] | None = None
) -> None:
    """Makes BENCH/corrupted and BENCH/severities/S if they are missing or lack a test patient.

    Where there are predictors, it makes BENCH/scan-grid/S too, copies in the scan's grid. A volume's copies
    depend on its name alone, so that those of other patients can join them later.
    """
    request, tested = data.request, select_patients(data.own, data.tested)
    folders: dict[Path, tuple[float, int, Grid]] = {}
    if request.rows:
        folders[bench / CORRUPTED] = 1.0, request.copies, "published"
    for value in request.severities:
        if value != 1:
            folders[severe_folder(bench, value)] = value, 1, "published"
    if request.predictors:
        for value in {0.0, 1.0, *request.severities}:
            folders[scan_grid_folder(bench, value)] = value, request.copies if value == 1 else 1, "scan"
    overrides = {key: value for key, value in request.settings.items() if key.startswith("cases.")}
    cases = resolve_settings(overrides=overrides).cases
    for out, (severity, copies, grid) in folders.items():
        if is_whole(out, tested):
            continue
        if not (out / MANIFEST).is_file():
            shutil.rmtree(out, ignore_errors=True)  # of a benchmark that was killed
        corrupt_dataset(
            tested, out, copies=copies, seed=request.seed_of_corruption, severity=severity, settings=cases,
            grid=grid, overwrite=True, progress=progress,
        )  # fmt: skip


def severe_sets(bench: Path, severity: float, patients: Sequence[str]) -> list[Dataset]:
    """Opens the copies of the test patients at one severity."""
    return [select_patients(each, patients) for each in open_datasets(severe_folder(bench, severity))]


def scan_grid_sets(bench: Path, patients: Sequence[str]) -> list[Dataset]:
    """Opens copies in the scan's grid: those without an artefact as one data set, and those of each kind."""
    clean, *_ = severe_scan_grid_sets(bench, 0, patients)
    return [replace(clean, name=NO_ARTEFACT), *severe_scan_grid_sets(bench, 1, patients)]


def severe_scan_grid_sets(bench: Path, severity: float, patients: Sequence[str]) -> list[Dataset]:
    """Opens the copies of the test patients at one severity, in the scan's grid."""
    found = open_datasets(scan_grid_folder(bench, severity))
    return [select_patients(replace(each, name=each.name + IN_SCAN_GRID), patients) for each in found]


def scan_grid_folder(bench: Path, severity: float) -> Path:
    """Returns the folder of the copies of a severity in the scan's grid."""
    return bench / SCAN_GRID / f"{severity:g}"


def severe_folder(bench: Path, severity: float) -> Path:
    """Returns the folder of the copies of a severity."""
    return bench / SEVERE / f"{severity:g}"


def split_name(request: Request, draw: str) -> str:
    """Returns the name or file of the split of a draw; random-SEED for a random one."""
    split = request.split
    if split == RANDOM:
        return f"{RANDOM}-{0 if draw == WHOLE else draw}"
    if draw == WHOLE:
        return split
    if Path(split).is_dir():
        return str(Path(split) / f"{draw}.json")
    if f"{split}-{draw}" in NAMED:
        return f"{split}-{draw}"
    known = [name.removeprefix(f"{split}-") for name in NAMED if name.startswith(f"{split}-")]
    raise CoopsegError(
        f"draw {draw!r}: split {split} has "
        + (f"draws {', '.join(known)}" if known else "no draws; leave --draws out")
    )


def is_whole(out: Path, tested: Dataset) -> bool:
    """Tells whether a folder holds the copies of every volume. Raises CoopsegError if it cannot be told."""
    if not (out / MANIFEST).is_file():
        return False
    manifest = read_record(ManifestFile, out / MANIFEST, "remove its folder, and the copies are made anew")
    there = {(entry.patient, entry.session, entry.phase) for entry in manifest.volumes}
    return {(ref.patient, ref.session, ref.phase) for ref in tested.items} <= there
