"""Trains Post-DAE: a denoising autoencoder that corrects a finished FTN (Larrazabal et al. 2020, TMI).

The autoencoder takes the place and the architecture of the STN, and is trained by itself. It sees damaged
label maps of the training slices and no predictions; the loss is CE(C(damaged), y). The labels of the
validation slices are damaged once, and training ends when they are no longer restored any better. This
defines convergence, so the autoencoder keeps the weights that restored them best, unlike an FTN, which keeps
the last. The length is not known beforehand, so the learning rate falls when there is no progress, whatever
schedule the settings name. Slices are augmented as in any training; only their labels are used.

The autoencoder has learned from hard label maps, so it gets hard ones: softmax(p / T) with a small T is
almost one-hot.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from coopseg.cases.splits import RUN
from coopseg.config.methods import POST_DAE
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.inference.model import LAST, Model, load_model, save_model
from coopseg.inference.predictor import Predictor
from coopseg.networks.cooperative import Networks
from coopseg.networks.native import kernels
from coopseg.networks.other import OtherNetworks, make_networks
from coopseg.results.records import EndedRunFile, read_checked
from coopseg.scans.files import check_new, new_folder, write_atomically
from coopseg.text import Json
from coopseg.training.batches import BatchSampler, SliceStore, make_batch, slices_per_batch
from coopseg.training.checkpoint import hash_cases, read_request
from coopseg.training.inputs import Inputs, change_request, read_inputs, validate
from coopseg.training.label_damage import damage_labels, sample_damage
from coopseg.training.log import Scores, Tracker, Values, make_trackers
from coopseg.training.loop import Progress
from coopseg.training.losses import cross_entropy, one_hot
from coopseg.training.optimiser import make_optimiser
from coopseg.training.processes import keep_freed_memory, make_fabric, peak_memory_gb
from coopseg.versions import versions

STN = ("shape_encoder", "shape_decoder")


@dataclass
class Best:
    """Holds the weights that restored the held-out maps best, with their cross-entropy and step number."""

    loss: float = float("inf")
    step: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)


class ShapeTraining:
    """Trains the STN of given networks; the FTN is never touched."""

    def __init__(
        self,
        networks: Networks | OtherNetworks,
        settings: Settings,
        *,
        store: SliceStore,
        held_out: SliceStore,
        most: int,
        fabric: Fabric,
        trackers: Sequence[Tracker] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Prepares at most `most` steps, in whole validation intervals, but at least one interval."""
        self.networks, self.settings, self.store, self.fabric = networks, settings, store, fabric
        self.trackers, self.progress = trackers, progress
        self.damage = settings.rivals.post_dae
        every = self.damage.validate_every
        self.most = max(most // every, 1) * every
        self.stn = nn.ModuleList(getattr(networks, name) for name in STN)
        self.optimiser = make_optimiser(self.stn, settings.training)
        self.schedule = ReduceLROnPlateau(
            self.optimiser, factor=self.damage.lower_by, patience=self.damage.lower_after - 1, threshold=0
        )
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.sampler = BatchSampler(len(store), slices_per_batch(settings), self.generator)
        self.target = held_out.plain(torch.arange(len(held_out)))[1]
        self.held_out = self.damaged(self.target, torch.Generator().manual_seed(settings.seed))
        self.best, self.done, self.step_seconds = Best(), 0, 0.0

    def damaged(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Returns label maps (B, H, W) with newly drawn damage."""
        size = (labels.shape[1], labels.shape[2])
        drawn = sample_damage(len(labels), size, self.networks.classes, self.damage, generator)
        return damage_labels(labels, drawn.to(labels.device))

    def run(self) -> None:
        """Train until patience or steps run out; the STN then has its best weights."""
        every = self.damage.validate_every
        patience = self.damage.patience * every
        while self.done < self.most and self.done - self.best.step < patience:
            begun = time.perf_counter()
            losses = torch.stack([self.train_step() for _ in range(every)])
            trained = float(losses.mean())
            self.step_seconds += time.perf_counter() - begun
            self.done += every
            restored = self.validate()
            if not math.isfinite(trained + restored):
                raise CoopsegError(
                    f"the loss is not finite at step {self.done}; lower training.learning_rate of the run"
                )
            if restored < self.best.loss:
                state = {name: value.clone() for name, value in self.stn.state_dict().items()}
                self.best = Best(restored, self.done, state)
            rate = self.optimiser.param_groups[0]["lr"]
            self.schedule.step(restored)
            values = {"total": trained, "shape": trained, "held_out": restored, "learning_rate": rate}
            self.log("train", self.done, values)
        self.stn.load_state_dict(self.best.state)
        self.networks.eval()

    def train_step(self) -> Tensor:
        """Runs one batch through the autoencoder and the optimiser; returns its loss."""
        _, labels = make_batch(self.store, self.sampler.next(), self.settings, self.generator)
        damaged = self.damaged(labels, self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(damaged, labels)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def loss(self, damaged: Tensor, labels: Tensor) -> Tensor:
        """Returns CE(C(damaged), y)."""
        like = self.networks.shape_encoder.stem.conv1.weight
        with self.fabric.autocast():
            restored = self.networks.refine(one_hot(damaged, self.networks.classes, like))
        return cross_entropy(restored, labels)

    @torch.no_grad()
    def validate(self) -> float:
        """Returns the mean CE(C(damaged), y) over the held-out maps."""
        self.stn.eval()
        size = self.settings.training.batch_size
        parts = zip(self.held_out.split(size), self.target.split(size), strict=True)
        total = sum(float(self.loss(damaged, labels)) * len(labels) for damaged, labels in parts)
        self.stn.train()
        return total / len(self.target)

    def log(self, kind: str, step: int, values: Values) -> None:
        """Sends values to every tracker and to the progress display."""
        for tracker in self.trackers:
            tracker.log(kind, step, values)
        if self.progress:
            left = (self.most - self.done) * self.step_seconds / self.done
            self.progress(Progress(self.done, self.most, left, kind, values))


TEMPERATURE = 0.01


def train_post_dae(
    run: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    trust: Collection[str] = (),
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the autoencoder for a finished run, on its patients and by its settings; returns `out`.

    run: folder of `coopseg train --method standard`. out: new or empty; it becomes an ordinary run folder,
    with the final FTN of `run`, and the autoencoder as its STN. data: where the run's data set lies now, if
    it has moved. trust: see `load_model`. progress: called with every Progress.
    Raises CoopsegError if `run` is no finished run, if its scans have changed since, or if `out` holds
    anything.
    """
    run, out = Path(run), Path(out)
    check_new(out)
    begun, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S")
    record, inputs, fabric = _read_run(run, data)
    keep_freed_memory()
    model = load_model(run, trust=trust)
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
    with new_folder(out, last=RUN) as folder:
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


def _read_run(run: Path, data: str | Path | None) -> tuple[Json, Inputs, Fabric]:
    """Returns the record of a finished run, its inputs and a Fabric; checks that the inputs are unchanged."""
    request = read_request(run)
    if not (run / RUN).is_file():
        raise CoopsegError(f"{run}: its training did not end; go on with `coopseg train --resume {run}`")
    record = read_checked(EndedRunFile, run / RUN, "train it anew")
    asked = change_request(request.arguments, **({} if data is None else {"data": data}))
    inputs = read_inputs(asked)
    if hash_cases(inputs) != request.scans:
        raise CoopsegError(f"{run}: the scans or labels of its patients have changed since; train it anew")
    return record, inputs, make_fabric(asked.device, inputs.settings.precision)


def _settle(settings: Settings) -> Settings:
    """Returns the settings for prediction by the FTN and then the autoencoder."""
    values = settings.model_dump()
    losses = values["losses"] | {"stn": True, "temperature": TEMPERATURE}
    return Settings.checked(values | {"method": POST_DAE, "losses": losses})


def _renew(model: Model, fabric: Fabric) -> Networks | OtherNetworks:
    """Returns the FTN of a model with a newly initialised STN, drawn with the seed of its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.settings.seed)
        networks = make_networks(model.settings.network, len(model.names))
    assert isinstance(model.networks, Networks | OtherNetworks)  # a run folder holds no ONNX file
    trained = model.networks.state_dict()
    kept = {name: value for name, value in trained.items() if name.partition(".")[0] not in STN}
    networks.load_state_dict(networks.state_dict() | kept)
    return networks.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _describe(training: ShapeTraining, scores: Scores) -> Json:
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
