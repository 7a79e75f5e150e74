"""Takes label maps in a folder, made by whatever program, as predictions of the volumes of data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.evaluation.subject import Subject
from coopseg.inference.facts import Facts, ModelFacts
from coopseg.inference.predictor import HEADS
from coopseg.scans.discover import files_below, is_nifti, unmarked
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts.described import CHANNEL, labels_beside
from coopseg.scans.load import load_label
from coopseg.scans.names import stem
from coopseg.scans.nifti import read_header
from coopseg.scans.types import Dataset, Labels, ScanRef
from coopseg.text import counted, listing

Key = tuple[str, str]  # data set, volume


@dataclass(frozen=True)
class StoredMaps:
    """Finds and reads the label maps of volumes in a folder.

    found: the file of each volume that has one. values: what the values in them mean, by data set. named:
    whether the user named the values, so that those without a name are background.
    """

    folder: Path
    names: tuple[str, ...]
    found: Mapping[Key, Path]
    values: Mapping[str, Labels]
    named: bool

    def __call__(self, dataset: Dataset, ref: ScanRef) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Returns the class indices of a volume, and lines that a user should read.

        Raises CoopsegError for a volume without a label map, and for one in another grid than its scan's or
        with a value that has no name.
        """
        file = self.found.get((dataset.name, ref.id))
        if file is None:
            wanted = listing([f"{name}.nii.gz" for name in dict.fromkeys(_names(ref))])
            raise CoopsegError(f"{ref.image}: no prediction in {self.folder}; looked for {wanted}")
        called = ref.id in (stem(file), unmarked(file))
        whole = called and len(read_header(file).shape) == 3  # of this frame alone
        label = load_label(replace(ref, label=file, frame=None if whole else ref.frame))
        assert label is not None
        data, values = label.data, self.values[dataset.name]
        lines: tuple[str, ...] = ()
        if self.named and (other := sorted(set(np.unique(data).tolist()) - set(values.values))):
            data = np.where(np.isin(data, other), values.values[0], data)
            lines = (
                f"predictions: --labels does not name {listing(list(map(str, other)))}, taken as background",
            )
        return {HEADS[0]: labels_to_indices(data, values, names=self.names, path=file)}, lines


def load_stored(
    folder: Path, datasets: Sequence[Dataset], *, labels: Labels | None = None
) -> tuple[Subject, list[str]]:
    """Makes a subject of the label maps in a folder; returns it with lines on what is left over there.

    A volume's label map is called as its image, its label or the volume itself; it lies anywhere below the
    folder, or below FOLDER/NAME where there is a folder with the name of the data set. labels: what the
    values mean; by default labels.json or dataset.json there says it, else the data set.
    Raises CoopsegError if nothing is there, two files could be the label map of one volume, or one file that
    of two.
    """
    if not folder.is_dir():
        raise CoopsegError(f"{folder}: no such folder; give the folder that holds the label maps")
    files = [file for file in files_below(folder) if is_nifti(file)]
    if not files:
        raise CoopsegError(f"{folder}: holds no .nii or .nii.gz; give the folder that holds the label maps")
    found: dict[Key, Path] = {}
    images: dict[Path, ScanRef] = {}
    values: dict[str, Labels] = {}
    lines: list[str] = []
    parts = {dataset.name: folder / dataset.name for dataset in datasets}
    for dataset in datasets:
        part = parts[dataset.name] if parts[dataset.name].is_dir() else folder
        taken = [path for path in parts.values() if path != part and path.is_dir()]
        own = [f for f in files if f.is_relative_to(part) and not any(f.is_relative_to(t) for t in taken)]
        by_name = _by_name(own)
        for ref in dataset.items:
            if file := _find(by_name, ref):
                if (first := images.setdefault(file, ref)).image != ref.image:
                    raise CoopsegError(
                        f"{file}: could be of {first.image} and of {ref.image}; put the label maps of each "
                        f"data set into a folder of its name, such as {parts[dataset.name]}"
                    )
                found[dataset.name, ref.id] = file
        beside = labels_beside(part) or labels_beside(folder)
        values[dataset.name] = labels or beside or dataset.labels
        lines += _say_values(values[dataset.name], given=labels, beside=beside)
    if surplus := [str(file.relative_to(folder)) for file in files if file not in images]:
        lines.append(
            f"{folder}: {counted(len(surplus), 'label map')} of no volume: {listing(surplus, most=5)}"
        )
    lines, names = list(dict.fromkeys(lines)), datasets[0].labels.names
    maps = StoredMaps(folder, names, found, values, named=labels is not None)
    facts = Facts(ModelFacts(str(folder), names, _digest(folder, sorted(images))))
    return Subject(None, names, HEADS[0], False, facts, folder, recall=maps), lines


def _say_values(values: Labels, *, given: Labels | None, beside: Labels | None) -> Iterator[str]:
    """Yields what the values of the predictions are taken to mean, since swapped names give wrong scores."""

    def meaning(labels: Labels) -> str:
        return ", ".join(f"{name}={value}" for name, value in labels.meaning.items())

    source = "--labels" if given else "the file beside them" if beside else "the data set"
    more = "" if given else "; --labels names others"
    yield f"values of the predictions, by {source}: {meaning(values)}{more}"
    if given and beside and given.meaning != beside.meaning:
        yield f"the file beside the predictions has other values than --labels: {meaning(beside)}"


def _names(ref: ScanRef) -> Iterator[str]:
    """Yields the names that a volume's label map may have, the volume's own first."""
    yield ref.id
    for file in (ref.image, ref.label):
        if file:
            yield stem(file)
            yield CHANNEL.sub("", stem(file))  # nnU-Net names scan X_0000 and its label map X
    if ref.label and (name := unmarked(ref.label)):
        yield name


def _by_name(files: Sequence[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in files:
        for name in {stem(file), unmarked(file) or stem(file)}:
            found.setdefault(name, []).append(file)
    return found


def _find(by_name: Mapping[str, Sequence[Path]], ref: ScanRef) -> Path | None:
    for name in _names(ref):
        files = by_name.get(name, ())
        if len(files) > 1:
            raise CoopsegError(
                f"{files[0]}: could be the prediction of {ref.id}, and so could {files[1]}; leave one there"
            )
        if files:
            return files[0]
    return None


def _digest(folder: Path, files: Sequence[Path]) -> str:
    """Returns a hash over names and contents, by which a resumed evaluation knows its predictions again."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder)}\0".encode(errors="surrogateescape"))
        with suppress(OSError):  # which is said where the volume is read
            digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()
