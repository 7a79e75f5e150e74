"""Data sets as their owners lay them out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from coopseg.errors import CoopsegError
from coopseg.scans.layouts import acdc, decathlon, folder, mnms, nnunet
from coopseg.scans.types import Dataset, Labels


class Layout(Protocol):
    """A module of this package: what it looks for, whether a folder has it, and how to list its items."""

    LOOKED_FOR: str

    def recognise(self, path: Path) -> bool: ...

    def open_layout(self, path: Path, labels: Labels | None = None) -> Dataset: ...


# in the order in which they are tried: the most particular first, a plain folder last
LAYOUTS: dict[str, Layout] = {
    "acdc": acdc, "mnms": mnms, "nnunet": nnunet, "decathlon": decathlon, "folder": folder,
}  # fmt: skip


def open_dataset(path: str | Path, *, layout: str = "auto", labels: Labels | None = None) -> Dataset:
    """List the volumes below `path`; no image is read.

    layout: a name of `LAYOUTS`, or "auto" to recognise it.
    labels: what the values mean; replaces what the layout says.
    Raises CoopsegError where the folder is missing, no layout fits, or nothing is found.
    """
    path = Path(path)
    if layout != "auto" and layout not in LAYOUTS:
        raise CoopsegError(f'layout "{layout}" is not known; take one of auto, {", ".join(LAYOUTS)}')
    if not path.is_dir():
        raise CoopsegError(f"{path}: no such folder; give the folder that holds the data set")
    module = LAYOUTS[layout] if layout != "auto" else _recognise(path)
    dataset = module.open_layout(path, labels)
    if not dataset.items:
        raise CoopsegError(f"{path}: no scans found; looked for {module.LOOKED_FOR}")
    _check_ids(dataset)
    return dataset


def _recognise(path: Path) -> Layout:
    for module in LAYOUTS.values():
        if module.recognise(path):
            return module
    looked = "; ".join(f"{name}: {module.LOOKED_FOR}" for name, module in LAYOUTS.items())
    raise CoopsegError(f"{path}: no data set recognised; looked for {looked}")


def _check_ids(dataset: Dataset) -> None:
    seen: dict[str, Path] = {}
    for item in dataset.items:
        if {"/", "\\", "\0"} & set(item.id) or item.id.startswith("."):
            raise CoopsegError(f'{item.image}: "{item.id}" cannot be part of a file name; rename the patient')
        if item.id in seen:
            raise CoopsegError(
                f"{item.image}: the same patient and phase ({item.id}) as {seen[item.id]}; remove one"
            )
        seen[item.id] = item.image
