"""Runs the training loop: batch, step, optimiser; validation, weights and checkpoints now and then."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from lightning_fabric import Fabric
from torch import Tensor

from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError, Stopped
from coopseg.inference.model import BEST, LAST, save_model
from coopseg.inference.predictor import Predictor
from coopseg.networks.other import make_networks
from coopseg.scans.files import write_atomically
from coopseg.training.batches import BatchSampler, SamplerState, SliceStore, make_batch, slices_per_batch
from coopseg.training.checkpoint import CHECKPOINT, save_checkpoint
from coopseg.training.hard_examples import FOLDER as HARD_EXAMPLES
from coopseg.training.hard_examples import moments, write_hard_examples
from coopseg.training.inputs import ValidationSet, validate
from coopseg.training.log import Meter, MeterState, Scores, Tracker, Values
from coopseg.training.optimiser import AverageState, WeightAverage, make_optimiser, make_schedule
from coopseg.training.processes import StopSignals, average_gradients, gather, share_weights
from coopseg.training.step import CooperativeStep

READ_EVERY = 20  # steps between two looks at the losses


@dataclass(frozen=True)
class Progress:
    """Holds what a progress display can show.

    left: seconds. kind: "start" (values: what is trained on), "train" (losses) or "validation" (scores).
    """

    step: int
    steps: int
    left: float
    kind: str
    values: Values

    @property
    def scores(self) -> Scores:
        """Returns the Dice of every head, of a validation."""
        return {head: dict(scores) for head, scores in self.values.items() if isinstance(scores, Mapping)}


class Own(SamplerState):
    """Holds what each process has for itself between two steps: its draws and the losses not yet read."""

    meter: MeterState


class LoopState(TypedDict):
    """Holds the whole state of a training between two steps. "processes": by rank."""

    step: int
    networks: dict[str, Tensor]
    optimiser: dict[str, Any]  # as torch has it
    schedule: dict[str, Any] | None
    average: AverageState | None
    history: Mapping[str, Any]
    processes: list[Own]


@dataclass
class History:
    """Holds what training leaves beside weights. best: "step" and "score" of each head's best validation."""

    validations: list[Values] = field(default_factory=list)
    best: Scores = field(default_factory=dict)
    step_seconds: float = 0.0  # in steps alone
    seconds: float = 0.0  # validation and checkpoints included


def total_steps(settings: Settings, slices: int, processes: int = 1) -> int:
    """Returns a run's optimiser steps: as given, or from epochs, in which processes share the slices."""
    training = settings.training
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None  # the settings guarantee one of the two
    return training.epochs * max(1, round(slices / (slices_per_batch(settings) * processes)))


class Loop:
    """Runs one training on one process or, with the same arguments, on each of several."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: SliceStore,
        validation: ValidationSet,
        out: Path,
        fabric: Fabric,
        trackers: Sequence[Tracker] = (),
        progress: Callable[[Progress], None] | None = None,
        save_every: float = 60.0,
    ) -> None:
        self.settings, self.store, self.validation = settings, store, validation
        self.out, self.fabric, self.trackers, self.progress = out, fabric, trackers, progress
        self.save_every = save_every
        self.names = validation.names
        self.steps = total_steps(settings, len(store), fabric.world_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            networks = make_networks(settings.network, len(self.names))
        self.networks = networks.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        share_weights(fabric, self.networks)
        self.step = CooperativeStep(self.networks, settings)
        self.optimiser = make_optimiser(self.networks, settings.training)
        self.schedule = make_schedule(self.optimiser, settings.training, self.steps)
        decay = settings.training.ema
        self.average = WeightAverage(self.networks, decay) if decay else None
        # Each process draws its own slices, augmentation and masks.
        seed = settings.seed * 1_000_003 + fabric.global_rank
        self.generator = torch.Generator().manual_seed(seed)
        self.sampler = BatchSampler(len(store), slices_per_batch(settings), self.generator)
        self.meter, self.history = Meter(), History()
        self.done = 0  # steps
        # Steps of standard training, in whole windows of the log, so that none mixes two sets of losses.
        self.alone = round(settings.training.cooperate_after * self.steps / READ_EVERY) * READ_EVERY
        self.signals = StopSignals()  # ignores signals until it is entered
        self.moments = moments(self.steps) if settings.latent.image or settings.latent.shape else ()

    def run(self) -> History:
        """Train to the end, from where `load_state_dict` left it.

        Raises CoopsegError if the loss stops being finite (the slices are then saved), OSError if a file
        cannot be written, and Stopped, with everything saved for resuming, after SIGTERM or SIGINT.
        """
        start = time.monotonic() - self.history.seconds
        saved = time.monotonic()
        for number in range(self.done + 1, self.steps + 1):
            begun = time.perf_counter()
            self.train_step()
            reads = number % READ_EVERY == 0 or number == self.steps
            validates = self.validates(number)
            if reads or validates:
                self.check_finite(number)  # waits for the device, so its time belongs to the steps
            self.history.step_seconds += time.perf_counter() - begun
            if reads:
                left = (time.monotonic() - start) / number * (self.steps - number)
                self.log("train", number, self.read_losses(), left)
            if validates:
                self.validate(number)
            if self.schedule and number < self.steps:
                self.schedule.step()
            if number in self.moments:
                self.keep_hard_examples(number)
            self.done, self.history.seconds = number, time.monotonic() - start
            if self.saves(saved):
                self.save()
                saved = time.monotonic()
        return self.history

    def train_step(self) -> None:
        """Passes one batch through the step and the optimiser."""
        numbers = self.sampler.next()
        images, labels = make_batch(self.store, numbers, self.settings, self.generator)
        images = images.contiguous(memory_format=torch.channels_last)
        self.optimiser.zero_grad(set_to_none=True)
        with self.fabric.autocast():
            choice = self.step.sample(
                images, self.generator, cooperate=self.done >= self.alone, progress=self.share
            )
            result = self.step.backward(images, labels, choice)
        average_gradients(self.fabric, self.networks)
        self.optimiser.step()
        if self.average:
            self.average.update(self.networks)
        self.meter.add(result, tuple(self.store.ids[n] for n in numbers.tolist()))

    @property
    def share(self) -> float:
        """Returns the share of the steps that was done when the log's window began.

        This keeps a window from mixing two sets of losses.
        """
        return self.done // READ_EVERY * READ_EVERY / self.steps

    def saves(self, saved: float) -> bool:
        """Tells whether to save after this step. Several processes must agree, and ask only now and then.

        Raises Stopped, with the checkpoint written, if a process was told to stop.
        """
        if self.fabric.world_size > 1 and self.done % READ_EVERY:
            return False
        due = time.monotonic() - saved >= self.save_every
        wishes = gather(self.fabric, (due, self.signals.received))
        stopped = next((number for _, number in wishes if number), None)
        if stopped and self.done < self.steps:
            self.save()
            raise Stopped(f"stopped after step {self.done} of {self.steps}", stopped)
        return wishes[0][0]

    def save(self) -> None:
        """Write a checkpoint; the previous one stays if that fails. Every process calls this."""
        state = self.state_dict()
        if self.fabric.is_global_zero:
            save_checkpoint(self.out / CHECKPOINT, state)

    def state_dict(self) -> LoopState:
        """Returns the whole state between two steps; every process calls this, the first one keeps it."""
        own: Own = {**self.sampler.state_dict(), "meter": self.meter.state_dict()}
        return {
            "step": self.done,
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "average": self.average.state_dict() if self.average else None,
            "history": asdict(self.history),
            "processes": gather(self.fabric, own),
        }

    def load_state_dict(self, state: LoopState) -> None:
        """Restores what `state_dict` returned, for the same settings and as many processes."""
        self.done = state["step"]
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.schedule and state["schedule"]:
            self.schedule.load_state_dict(state["schedule"])
        if self.average and state["average"]:
            self.average.load_state_dict(state["average"])
        self.history = History(**state["history"])
        own = state["processes"][self.fabric.global_rank]
        self.sampler.load_state_dict(own)
        self.meter.load_state_dict(own["meter"], self.fabric.device)

    def keep_hard_examples(self, number: int) -> None:
        """Saves a few examples of what the masks make of the codes now."""
        if self.fabric.is_global_zero:
            with self.fabric.autocast():
                write_hard_examples(self.out / HARD_EXAMPLES, number, self.step, self.store)

    def validates(self, number: int) -> bool:
        """Tells whether a validation follows this step: they are spread evenly and the last step has one."""
        times = self.settings.training.validations
        return number * times // self.steps > (number - 1) * times // self.steps

    def check_finite(self, number: int) -> None:
        """Raise CoopsegError, on every process, if a loss since the last look, or a weight, is not finite."""
        bad = self.meter.bad_batch()
        if bad is None and not all(
            bool(value.isfinite().all()) for value in self.networks.state_dict().values()
        ):
            bad = len(self.meter) - 1, self.meter.batches[-1]
        found = [batch for batch in gather(self.fabric, bad) if batch]
        if not found:
            return
        first = min(index for index, _ in found)
        step = number - len(self.meter) + 1 + first
        slices = [name for index, names in found if index == first for name in names]
        path = self.out / "nonfinite.json"
        if self.fabric.is_global_zero:
            write_atomically(path, json.dumps({"step": step, "slices": slices}, indent=1).encode())
        self.fabric.barrier()  # a process that fails ends the others
        raise CoopsegError(
            f"the loss or its gradient is not finite at step {step}; its slices are in {path}; "
            "look at those scans, or lower training.learning_rate"
        )

    def read_losses(self) -> Values:
        """Returns the learning rate, and means over the steps of this process since the last look."""
        return {**self.meter.read(), "learning_rate": self.optimiser.param_groups[0]["lr"]}

    def log(self, kind: str, number: int, values: Values, left: float = 0.0) -> None:
        """Sends values to every tracker and to the progress display; from the first process only."""
        if self.fabric.is_global_zero:
            for tracker in self.trackers:
                tracker.log(kind, number, values)
            if self.progress:
                self.progress(Progress(number, self.steps, left, kind, values))

    def validate(self, number: int) -> None:
        """Measure Dice on the validation patients; save the weights, and each head's best beside them."""
        if not self.fabric.is_global_zero:
            return
        trained = {name: value.clone() for name, value in self.networks.state_dict().items()}
        kept = self.average.values if self.average else trained
        self.networks.load_state_dict(kept)
        self.networks.eval()
        predictor = Predictor(self.networks, self.settings, autocast=self.fabric.autocast)
        scores = validate(predictor, self.validation)
        self.history.validations.append({"step": number, **scores})
        save_model(self.out / LAST, kept, settings=self.settings, names=self.names)
        for head, values in scores.items():
            best = self.history.best.get(head)
            if best is None or values["mean"] > best["score"]:
                self.history.best[head] = {"step": number, "score": values["mean"]}
                save_model(self.out / BEST[head], kept, settings=self.settings, names=self.names)
        self.log("validation", number, scores)
        self.networks.load_state_dict(trained)
        self.networks.train()
