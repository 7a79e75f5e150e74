"""`train`: from a folder of scans to a run folder with weights, log and record."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from coopseg.cases.collect import load_cases
from coopseg.cases.prepare import Case
from coopseg.cases.select import RUN
from coopseg.cases.splits import Split, get_split
from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError
from coopseg.inference.device import choose_device
from coopseg.scans.files import write_atomically
from coopseg.scans.labels import parse_label_names
from coopseg.scans.layouts import open_dataset
from coopseg.scans.new_folder import check_new
from coopseg.scans.types import Dataset
from coopseg.training.batches import SliceStore
from coopseg.training.loop import History, Loop, Progress
from coopseg.training.memory import keep_freed_memory, peak_memory_gb
from coopseg.training.tracking import make_trackers
from coopseg.training.validation import ValidationSet
from coopseg.versions import versions


def train(
    data: str | Path,
    out: str | Path,
    *,
    preset: str = "default",
    method: str = "cooperative",
    split: str = "random",
    layout: str = "auto",
    labels: str | None = None,
    settings: Mapping[str, Any] | Iterable[str] = (),
    seed: int = 0,
    device: str = "auto",
    precision: str = "32",
    cache: str | Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train FTN and STN (Chen et al. 2021) on the training patients of a data set; returns the run folder.

    data: folder in one of the known layouts. out: new or empty folder. split: see
    `coopseg.cases.splits.get_split`. labels: "LV=1,MYO=2" where the layout names none. settings: overrides
    such as {"training.steps": 500}. device: "auto", "cpu", "cuda" or "mps". cache: folder for prepared cases.
    report: called with every progress.
    Raises CoopsegError for anything wrong with the data, the settings or the folder, before training starts.
    """
    keep_freed_memory()
    out = Path(out)
    resolved = resolve_settings(
        preset=preset, method=method, overrides=settings, seed=seed, precision=precision
    )
    dataset = open_dataset(Path(data), layout=layout, labels=parse_label_names(labels) if labels else None)
    parts = get_split(split, dataset, seed=seed)
    names = dataset.labels.names
    fabric = make_fabric(device, resolved.precision)
    check_new(out)
    arguments: dict[str, Any] = {"names": names, "cache_dir": Path(cache) if cache else None}
    training = load_cases(dataset, resolved.cases, patients=parts.require("train"), **arguments)
    validation = load_cases(dataset, resolved.cases, patients=parts.require("validate"), **arguments)
    validated = ValidationSet.from_cases(validation, dataset.labels, names)
    if fabric.is_global_zero:
        _make(out)
    fabric.barrier()  # nothing is written before every process has found the folder empty
    started = time.time()
    trackers = make_trackers(out) if fabric.is_global_zero else []
    try:
        loop = Loop(
            settings=resolved,
            store=SliceStore.from_cases(training, fabric.device),
            validation=validated,
            out=out,
            fabric=fabric,
            trackers=trackers,
            report=report,
        )
        sizes = {"training_patients": len(parts.train), "training_slices": len(loop.store)}
        loop.log("start", 0, {**sizes, "validation_patients": len(parts.validate)})
        history = loop.run()
    finally:
        for tracker in trackers:
            tracker.close()
    if fabric.is_global_zero:
        record = describe_run(loop, history, dataset, parts, warnings=_warnings(training + validation))
        record["started"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(started))
        write_atomically(out / RUN, json.dumps(record, indent=1).encode())
    fabric.barrier()  # on every process the folder is whole when this returns
    return out


def describe_run(
    loop: Loop, history: History, dataset: Dataset, split: Split, *, warnings: list[str]
) -> dict[str, Any]:
    """Everything that is written about a finished training."""
    return {
        "settings": loop.settings.model_dump(mode="json"),
        "data": {"name": dataset.name, "layout": dataset.layout, "labels": loop.names},
        "split": {"name": split.name, "train": split.train, "validate": split.validate, "test": split.test},
        "slices": len(loop.store),
        "steps": loop.steps,
        "device": str(loop.fabric.device),
        "processes": loop.fabric.world_size,
        "threads": torch.get_num_threads(),
        "seconds": history.seconds,
        "seconds_per_step": history.step_seconds,
        "peak_memory_gb": peak_memory_gb(loop.fabric.device),
        "best": history.best,
        "validations": history.validations,
        "warnings": warnings,
        "versions": versions(),
        "command": sys.argv,
    }


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CoopsegError(f"{out}: cannot be made ({error.strerror}); choose another --out") from None


def _warnings(cases: list[Case]) -> list[str]:
    return [f"{case.ref.id if case.ref else ''}: {line}" for case in cases for line in case.warnings]


def make_fabric(device: str, precision: str) -> Fabric:
    """Fabric for the device; under torchrun it joins the other processes. CoopsegError if it is not there."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // processes
    fabric = Fabric(
        accelerator=choose_device(device).type,
        devices=processes,
        num_nodes=max(1, nodes),
        strategy="ddp" if processes * nodes > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric
