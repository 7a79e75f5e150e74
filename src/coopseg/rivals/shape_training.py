"""Trains an STN by itself, as a denoising autoencoder on label maps.

The STN sees damaged label maps of the training slices and no predictions; the loss is CE(C(damaged), y). The
labels of the validation slices are damaged once; training ends when they are no longer restored any better.
That defines convergence, so the STN keeps the weights that restored them best, unlike an FTN, which keeps the
last. The length is not known beforehand, so the learning rate falls when there is no progress, whatever
schedule the settings name. Slices are augmented as in any training; only their labels are used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.training.batches import BatchSampler, SliceStore, make_batch, slices_per_batch
from coopseg.training.label_damage import damage_labels, sample_damage
from coopseg.training.log import Tracker
from coopseg.training.loop import Progress
from coopseg.training.losses import cross_entropy, one_hot
from coopseg.training.optimiser import make_optimiser

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
        networks: Networks,
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

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Sends values to every tracker and to the progress display."""
        for tracker in self.trackers:
            tracker.log(kind, step, values)
        if self.progress:
            left = (self.most - self.done) * self.step_seconds / self.done
            self.progress(Progress(self.done, self.most, left, kind, values))
