"""What is trained and tested on: the split of a draw, test patients, their corrupted copies, other sites."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from coopseg.benchmark.request import WHOLE, Request
from coopseg.cases.splits import NAMED, PARTS, Split, get_split, select_patients
from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError
from coopseg.evaluation.corrupt import MANIFEST, corrupt_dataset
from coopseg.evaluation.corruptions import KINDS
from coopseg.evaluation.run import open_datasets
from coopseg.scans.files import write_atomically
from coopseg.scans.types import Dataset
from coopseg.text import read_json, whole_number

CORRUPTED, SEVERE, SPLITS = "corrupted", "severities", "splits"
RANDOM = "random"


def open_data(request: Request) -> Dataset:
    """Opens the data set of --data."""
    return open_datasets(request.data, layout=request.layout, labels=request.labels)[0]


def open_cross(request: Request) -> list[Dataset]:
    """Opens the data set of --cross, if any; --labels does not replace names of its own."""
    if request.cross is None:
        return []
    return open_datasets(request.cross, layout=request.layout, labels=request.labels, rename=False)


def find_draw(request: Request, draw: str, dataset: Dataset) -> Split:
    """The split of a draw. Raises CoopsegError for an unknown one, or one that cannot be tested."""
    if request.split == RANDOM:
        number = 0 if draw == WHOLE else whole_number(draw)
        if number is None:
            raise CoopsegError(f"draw {draw!r}: draws of a random split are numbers, such as --draws 0,1,2")
        split = get_split(RANDOM, dataset, seed=number)
    else:
        split = get_split(split_name(request, draw), dataset)
    for part in PARTS:
        split.require(part)
    return split


def write_draw(bench: Path, request: Request, draw: str, dataset: Dataset) -> str:
    """The name or file by which `coopseg.train` finds the split of a draw.

    A random one is written down: the seed of a training would otherwise draw its own.
    """
    if request.split != RANDOM:
        return split_name(request, draw)
    path, split = bench / SPLITS / f"{draw}.json", find_draw(request, draw, dataset)
    if not path.is_file():
        write_atomically(path, json.dumps({part: getattr(split, part) for part in PARTS}, indent=1).encode())
    return str(path.resolve())


def tested_patients(request: Request, dataset: Dataset) -> tuple[str, ...]:
    """The test patients of all draws, each once."""
    splits = [find_draw(request, draw, dataset) for draw in request.draws or (WHOLE,)]
    return tuple(dict.fromkeys(patient for split in splits for patient in split.test))


def check_data(request: Request) -> None:
    """Raise CoopsegError where data, draws or names of data sets cannot be used."""
    dataset, cross = open_data(request), open_cross(request)
    tested_patients(request, dataset)
    names = [dataset.name, *KINDS, *(other.name for other in cross)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CoopsegError(f"two data sets are called {twice!r}; name them, as --cross NAME=FOLDER")


def corrupt_tested(
    bench: Path, request: Request, *, progress: Callable[[int, int, str], None] | None = None
) -> None:
    """BENCH/corrupted and BENCH/severities/S, where they are not there or lack a test patient.

    A volume's copies depend on its name alone, so that those of other patients can join them later.
    """
    dataset = open_data(request)
    tested = select_patients(dataset, tested_patients(request, dataset))
    folders = {bench / CORRUPTED: (1.0, request.copies)}
    folders |= {severe_folder(bench, value): (value, 1) for value in request.severities if value != 1}
    overrides = {key: value for key, value in request.settings.items() if key.startswith("cases.")}
    cases = resolve_settings(overrides=overrides).cases
    for out, (severity, copies) in folders.items():
        if _is_whole(out, tested):
            continue
        if not (out / MANIFEST).is_file():
            shutil.rmtree(out, ignore_errors=True)  # of a benchmark that was killed
        seed = request.seed_of_corruption
        corrupt_dataset(
            tested, out, copies=copies, seed=seed, severity=severity, settings=cases, overwrite=True,
            progress=progress,
        )  # fmt: skip


def severe_folder(bench: Path, severity: float) -> Path:
    """Where the copies of a severity lie."""
    return bench / SEVERE / f"{severity:g}"


def data_of_test(bench: Path, request: Request, test: Sequence[str]) -> list[Dataset]:
    """Test patients as they are, their corrupted copies, and all patients of other sites."""
    dataset = open_data(request)
    own = [dataset, *open_datasets(bench / CORRUPTED)]
    return [*(select_patients(each, test) for each in own), *open_cross(request)]


def severe_data(bench: Path, severity: float, test: Sequence[str]) -> list[Dataset]:
    """Copies of the test patients at one severity."""
    return [select_patients(each, test) for each in open_datasets(severe_folder(bench, severity))]


def split_name(request: Request, draw: str) -> str:
    """A draw of a named split, of a folder, or of a random split, in words or as a path."""
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


def _is_whole(out: Path, tested: Dataset) -> bool:
    if not (out / MANIFEST).is_file():
        return False
    there = {(entry["patient"], entry["phase"]) for entry in read_json(out / MANIFEST)["volumes"]}
    return {(ref.patient, ref.phase) for ref in tested.items} <= there
