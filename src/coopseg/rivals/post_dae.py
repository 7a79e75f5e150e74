"""Trains Post-DAE: a denoising autoencoder that corrects a finished FTN (Larrazabal et al. 2020, TMI).

The autoencoder takes the place and the architecture of the STN, and is trained by itself (`shape_training`).
It has learned from hard label maps, so it gets hard ones: softmax(p / T) with a small T is almost one-hot.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from coopseg.cases.splits import RUN
from coopseg.config.methods import POST_DAE
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.inference.model import LAST, Model, load_model, save_model
from coopseg.inference.predictor import Predictor
from coopseg.networks.cooperative import Networks
from coopseg.networks.native import kernels
from coopseg.rivals.shape_training import STN, ShapeTraining
from coopseg.scans.files import check_new, new_folder, write_atomically
from coopseg.text import read_json
from coopseg.training.batches import SliceStore
from coopseg.training.checkpoint import hash_cases, read_request
from coopseg.training.inputs import Inputs, change_request, read_inputs, validate
from coopseg.training.log import make_trackers
from coopseg.training.loop import Progress
from coopseg.training.processes import keep_freed_memory, make_fabric, peak_memory_gb
from coopseg.versions import versions

TEMPERATURE = 0.01


def train_post_dae(
    run: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the autoencoder for a finished run, on its patients and by its settings; returns `out`.

    run: folder of `coopseg train --method standard`. out: new or empty; it becomes an ordinary run folder,
    with the final FTN of `run`, and the autoencoder as its STN. data: where the run's data set lies now, if
    it has moved. progress: called with every Progress.
    Raises CoopsegError if `run` is no finished run, if its scans have changed since, or if `out` holds
    anything.
    """
    run, out = Path(run), Path(out)
    check_new(out)
    begun, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S")
    record, inputs, fabric = _read_run(run, data)
    keep_freed_memory()
    model = load_model(run)
    networks, settings = _renew(model, fabric), _settle(model.settings)
    training = ShapeTraining(
        networks,
        settings,
        store=SliceStore.from_cases(inputs.training, inputs.settings, fabric.device),
        held_out=SliceStore.from_cases(inputs.validation.cases, inputs.settings, fabric.device),
        most=round(settings.rivals.post_dae.longest * record["steps"]),
        fabric=fabric,
        progress=progress,
    )
    with new_folder(out) as folder:
        training.trackers = make_trackers(folder)
        try:
            training.run()
            scores = validate(Predictor(networks, settings, autocast=fabric.autocast), inputs.validation)
            training.log("validation", training.best.step, scores)
        finally:
            for tracker in training.trackers:
                tracker.close()
        save_model(folder / LAST, networks.state_dict(), settings=settings, names=model.names)
        own = _describe(training, scores)
        own |= {"started": started, "seconds": time.monotonic() - begun, "warnings": inputs.warnings}
        described = record | own | {"stands_on": model.sha256}
        write_atomically(folder / RUN, json.dumps(described, indent=1).encode())
    return out


def _read_run(run: Path, data: str | Path | None) -> tuple[dict[str, Any], Inputs, Fabric]:
    """Returns the record of a finished run, its inputs and a Fabric; checks that the inputs are unchanged."""
    request = read_request(run)
    if not (run / RUN).is_file():
        raise CoopsegError(f"{run}: its training did not end; go on with `coopseg train --resume {run}`")
    asked = change_request(request.arguments, **({} if data is None else {"data": data}))
    inputs = read_inputs(asked)
    if hash_cases(inputs) != request.scans:
        raise CoopsegError(f"{run}: the scans or labels of its patients have changed since; train it anew")
    return read_json(run / RUN), inputs, make_fabric(asked.device, inputs.settings.precision)


def _settle(settings: Settings) -> Settings:
    """Returns the settings for prediction by the FTN and then the autoencoder."""
    values = settings.model_dump()
    losses = values["losses"] | {"stn": True, "temperature": TEMPERATURE}
    return Settings.checked(values | {"method": POST_DAE, "losses": losses})


def _renew(model: Model, fabric: Fabric) -> Networks:
    """Returns the FTN of a model with a newly initialised STN, drawn with the seed of its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.settings.seed)
        networks = Networks(classes=len(model.names), **dict(model.settings.network))
    assert isinstance(model.networks, Networks)  # a run folder holds no ONNX file
    trained = model.networks.state_dict()
    kept = {name: value for name, value in trained.items() if name.partition(".")[0] not in STN}
    networks.load_state_dict(networks.state_dict() | kept)
    return networks.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _describe(training: ShapeTraining, scores: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Returns the entries of run.json that differ from the standard run's; see `coopseg.training.run`."""
    device, settings, step = training.fabric.device, training.settings, training.best.step
    return {
        "settings": settings.model_dump(mode="json"),
        "steps": training.done,
        "device": str(device),
        "processes": training.fabric.world_size,
        "threads": torch.get_num_threads(),
        "kernels": str(kernels()) if device.type == "cpu" else None,
        "seconds_per_step": training.step_seconds / training.done,
        "peak_memory_gb": peak_memory_gb(device),
        "best": {},  # one validation, so there is nothing to choose among
        "validations": [{"step": step, **scores}],
        "versions": versions(),
        "command": sys.argv,
    }
