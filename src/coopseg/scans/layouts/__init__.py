"""Opens data sets as their owners lay them out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coopseg.errors import CoopsegError
from coopseg.scans.discover import others_in, summarise, telling
from coopseg.scans.labels import parse_label_names
from coopseg.scans.layouts.cardiac import ACDC, MNMS
from coopseg.scans.layouts.described import DECATHLON, NNUNET
from coopseg.scans.layouts.folder import FOLDER
from coopseg.scans.layouts.found import Problems, keep
from coopseg.scans.types import Dataset, Labels, ScanRef
from coopseg.text import counted, shorten

LONGEST_NAME = 200  # bytes; files are named after patients, and a file name has at most 255


# in the order in which they are tried: the most specific first, a plain folder last
LAYOUTS = {"acdc": ACDC, "mnms": MNMS, "nnunet": NNUNET, "decathlon": DECATHLON, "folder": FOLDER}


def open_dataset(
    path: str | Path | Dataset,
    *,
    layout: str = "auto",
    labels: Labels | str | None = None,
    problems: Problems = None,
    lost_too: bool = False,
) -> Dataset:
    """List the volumes below `path`; no image is read. A data set that is open already comes back as it is.

    layout: a name of `LAYOUTS`, or "auto" to recognise it.
    labels: what the values mean, as Labels or as "LV=1,MYO=2,RV=3"; replaces what the layout says.
    problems: a list that collects the errors of single entries; these are then skipped instead of raised. No
    label file is read then: if nothing names the values, the data set's labels are background alone.
    lost_too: list volumes of which a file is a link to nothing too; whatever reads them refuses them.
    The result also lists test images without labels (`unlabelled`), and what looks like a scan but is not
    used (`passed_over`). Raises CoopsegError if the folder is missing, no layout fits, nothing is found, a
    link leads to nothing, an image has two label maps, or a name cannot be part of a file name or of a line
    in a table.

    >>> import coopseg, tempfile
    >>> folder = coopseg.write_phantom(tempfile.mkdtemp(), patients=1, size=48)["acdc"]
    >>> dataset = open_dataset(folder)
    >>> dataset.layout, dataset.labels.names, [item.id for item in dataset.items]
    ('acdc', ('background', 'RV', 'MYO', 'LV'), ['patientP001_ED', 'patientP001_ES'])
    """
    labels = parse_label_names(labels) if isinstance(labels, str) else labels
    if isinstance(path, Dataset):
        if layout != "auto" or labels is not None:
            raise CoopsegError(f"{path.root}: is open already; give layout and labels where it is opened")
        return path
    path = Path(path)
    if layout != "auto" and layout not in LAYOUTS:
        raise CoopsegError(f'layout "{layout}" is not known; take one of auto, {", ".join(LAYOUTS)}')
    if not path.is_dir():
        raise CoopsegError(f"{path}: no such folder; give the folder that holds the data set")
    with telling(path):
        name = layout if layout != "auto" else _recognise(path)
        found = LAYOUTS[name].list_found(path, labels, problems)
        dataset = found.complete(path, name, problems, lost_too=lost_too)
    if labels is not None:
        own = LAYOUTS[name].list_found(path, None, []).labels
        if own.are_named and labels.contradicts(own):
            dataset = replace(dataset, contradicted=own)
    if not dataset.items and not dataset.unlabelled and not problems:
        raise CoopsegError(f"{path}: no scans found; looked for {LAYOUTS[name].looked_for}")
    with keep(problems):
        _check_names(dataset)
    _check_ids(dataset, problems)
    return dataset


def notes_on(dataset: Dataset) -> list[str]:
    """Returns a line each on what a data set holds and nobody uses: names, files, images without labels."""
    notes = []
    if dataset.contradicted:
        notes.append(contradiction(dataset.labels, dataset.contradicted))
    if line := summarise(dataset.passed_over):
        notes.append(f"{line}; `coopseg validate {dataset.root}` names them")
    if dataset.unlabelled:
        left = counted(len(dataset.unlabelled), "test image")
        notes.append(f"{left} without labels left out; only predict uses them")
    return notes


def contradiction(given: Labels, own: Labels) -> str:
    """Says that the names given for a data set are used although it has other names itself."""
    shown = (
        ", ".join(f"{name}={value}" for name, value in labels.meaning.items()) for labels in (given, own)
    )
    return "--labels {} is used, but the data set itself says {}".format(*shown)


def _recognise(path: Path) -> str:
    for name, layout in LAYOUTS.items():
        if layout.recognise(path):
            return name
    if other := others_in(path, path / "images", path / "imagesTr", path / "imagesTs"):
        raise CoopsegError(f"{path}: no data set recognised, but {other}; convert them to .nii.gz")
    looked = "; ".join(f"{name}: {layout.looked_for}" for name, layout in LAYOUTS.items())
    raise CoopsegError(
        f"{path}: no data set recognised; looked for {looked}; `coopseg import` makes it of DICOM"
    )


def _check_names(dataset: Dataset) -> None:
    """Checks the names of data set, labels, channels and sites, which appear in tables and pictures."""
    sites = (item.site for item in (*dataset.items, *dataset.unlabelled))
    for name in dict.fromkeys((dataset.name, *dataset.labels.names, *dataset.channels, *sites)):
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise CoopsegError(
                f"{dataset.root}: {shorten(name)} cannot be the name of a data set, label, channel or site; "
                f"write at most {LONGEST_NAME} letters in one line"
            )


def _check_ids(dataset: Dataset, problems: Problems) -> None:
    first: dict[str, ScanRef] = {}
    for item in (*dataset.items, *dataset.unlabelled):
        with keep(problems):
            _check_id(item, first.setdefault(item.id, item))


def _check_id(item: ScanRef, first: ScanRef) -> None:
    wrong = not item.id.isprintable() or {"/", "\\"} & set(item.id) or item.id.startswith(".")
    if wrong or not 0 < len(item.id.encode(errors="replace")) <= LONGEST_NAME:
        raise CoopsegError(
            f"{item.image}: {shorten(item.id)} cannot be part of a file name; rename the patient"
        )
    if first is not item:
        raise CoopsegError(
            f"{item.image}: the same patient and phase ({item.id}) as {first.image}; remove one",
            rule="duplicate-case",
        )
