"""`train`: from a folder of scans to a run folder with weights, log and record."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from coopseg.cases.collect import load_cases
from coopseg.cases.splits import get_split
from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError
from coopseg.scans.files import write_atomically
from coopseg.scans.labels import parse_label_names
from coopseg.scans.layouts import open_dataset
from coopseg.training.batches import SliceStore
from coopseg.training.loop import Loop, Progress
from coopseg.training.tracking import make_trackers
from coopseg.training.validation import ValidationSet

LIBRARIES = ("torch", "numpy", "nibabel", "scipy", "lightning-fabric", "torchio", "safetensors")
RUN = "run.json"


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
    out = Path(out)
    resolved = resolve_settings(preset=preset, method=method, overrides=settings, seed=seed, precision=precision)
    dataset = open_dataset(Path(data), layout=layout, labels=parse_label_names(labels) if labels else None)
    parts = get_split(split, dataset, seed=seed)
    names = dataset.labels.names
    fabric = make_fabric(device, resolved.precision)
    arguments: dict[str, Any] = {"names": names, "cache_dir": Path(cache) if cache else None}
    training = load_cases(dataset, resolved.cases, patients=parts.require("train"), **arguments)
    validation = load_cases(dataset, resolved.cases, patients=parts.require("validate"), **arguments)
    validated = ValidationSet.from_cases(validation, dataset.labels, names)
    claim_folder(out)
    started = time.time()
    loop = Loop(
        settings=resolved,
        store=SliceStore.from_cases(training, fabric.device),
        validation=validated,
        out=out,
        fabric=fabric,
        trackers=make_trackers(out) if fabric.is_global_zero else [],
        report=report,
    )
    history = loop.run()
    record = {
        "settings": resolved.model_dump(mode="json"),
        "data": {"name": dataset.name, "layout": dataset.layout, "labels": names},
        "split": {"name": parts.name, "train": parts.train, "validate": parts.validate, "test": parts.test},
        "slices": len(loop.store),
        "steps": loop.steps,
        "device": str(fabric.device),
        "processes": fabric.world_size,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(started)),
        "seconds": history.seconds,
        "seconds_per_step": history.step_seconds,
        "peak_memory_gb": peak_memory_gb(fabric.device),
        "best": history.best,
        "validations": history.validations,
        "warnings": [f"{c.ref.id if c.ref else ''}: {w}" for c in (*training, *validation) for w in c.warnings],
        "versions": versions(),
        "command": sys.argv,
    }
    if fabric.is_global_zero:
        write_atomically(out / RUN, json.dumps(record, indent=1).encode())
    for tracker in loop.trackers:
        tracker.close()
    return out


def make_fabric(device: str, precision: str) -> Fabric:
    """Fabric for the device; under torchrun it joins the other processes. Raises CoopsegError if not there."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device != "auto" and not available.get(device):
        usable = ", ".join(name for name, there in available.items() if there)
        raise CoopsegError(f"device {device!r} is not available here; usable: auto, {usable}")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // processes
    fabric = Fabric(
        accelerator=device,
        devices=processes,
        num_nodes=max(1, nodes),
        strategy="ddp" if processes * nodes > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def claim_folder(out: Path) -> None:
    """Make the run folder. Raises CoopsegError if something is in it already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CoopsegError(f"{out}: exists and is not an empty folder; choose another --out")
    out.mkdir(parents=True, exist_ok=True)


def peak_memory_gb(device: torch.device) -> float:
    """Most memory this process has held: on the GPU, or resident (ru_maxrss)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def versions() -> dict[str, str]:
    """What a result depends on."""
    found = {name: version(name) for name in LIBRARIES}
    return {"coopseg": version("coopseg"), "python": platform.python_version(), **found, "machine": platform.machine()}
