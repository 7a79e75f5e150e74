"""Holds training slices on the device, and makes batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from coopseg.cases.prepare import Case
from coopseg.cases.steps import centre_start, overlap
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.training.augmentation import apply_augmentation, beyond, sample_augmentation
from coopseg.training.losses import rescale_slices
from coopseg.training.random_networks import sample_networks, transform


@dataclass(frozen=True)
class SliceStore:
    """Holds every training slice on the device, with all that augmentation may bring into its crop.

    images: (N, C, rows, columns) float32 in [0, 1], canvases around the crop, 0 beyond the scan. labels:
    (N, rows, columns) uint8 class indices. inside: (N, 2, 2) float32, the first and last column, then row, of
    the scan itself. ids: a name for each slice. size: (H, W) of the crop. rescale: whether a crop is scaled
    to [0, 1].
    """

    images: Tensor
    labels: Tensor
    inside: Tensor
    ids: tuple[str, ...]
    size: tuple[int, int]
    rescale: bool = True

    @classmethod
    def from_cases(
        cls, cases: Sequence[Case], settings: Settings, device: torch.device | str = "cpu"
    ) -> SliceStore:
        """Stack the slices of labelled cases, prepared with a canvas or as crops, all of one size.

        Raises CoopsegError if there are none or one has no label.
        """
        if not cases:
            raise CoopsegError("no training cases: the split's training part is empty")
        for case in cases:
            if case.label is None:
                raise CoopsegError(f"{case.ref.image if case.ref else 'case'}: training needs a label")
        images = torch.from_numpy(np.concatenate([case.image for case in cases]))
        labels = torch.from_numpy(np.concatenate([case.label for case in cases if case.label is not None]))
        inside = torch.cat([_extent(case).expand(len(case.image), 2, 2) for case in cases])
        ids = tuple(
            f"{case.ref.id if case.ref else index}:slice{number}"
            for index, case in enumerate(cases)
            for number in range(len(case.image))
        )
        images, labels, inside = images.to(device), labels.to(device), inside.to(device)
        return cls(images, labels, inside, ids, settings.cases.size, settings.cases.slice_minmax)

    @classmethod
    def of_crops(cls, images: Tensor, labels: Tensor, ids: tuple[str, ...]) -> SliceStore:
        """Makes a store of slices (N, C, H, W) and labels (N, H, W) that end where their crop does."""
        height, width = images.shape[2:]
        inside = torch.tensor([[0.0, width - 1], [0, height - 1]]).to(images.device)
        return cls(images, labels, inside.expand(len(ids), 2, 2), ids, (height, width))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def canvas(self) -> tuple[int, int]:
        """Returns the (rows, columns) that are held of each slice."""
        return self.images.shape[2], self.images.shape[3]

    def plain(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Returns crops (B, C, H, W) and labels (B, H, W) int64 as a prediction would see them."""
        rows, columns = (
            slice(start, start + side)
            for side, start in zip(self.size, map(centre_start, self.canvas, self.size), strict=True)
        )
        images, labels = self.images[numbers][:, :, rows, columns], self.labels[numbers][:, rows, columns]
        return rescale_slices(images) if self.rescale else images, labels.long()


def _extent(case: Case) -> Tensor:
    """Returns (2, 2): the first and last column, then row, of the scan within its canvas."""
    _, window = overlap(case.record.resampled, case.record.size)
    return torch.tensor([[part.start, part.stop - 1] for part in reversed(window)], dtype=torch.float32)


class SamplerState(TypedDict):
    """Holds a generator's state and the slices that the current pass has yet to see."""

    generator: Tensor
    queue: Tensor


class BatchSampler:
    """Draws the slice numbers of each step: every pass holds each slice once, in a new seeded order."""

    def __init__(self, slices: int, size: int, generator: torch.Generator) -> None:
        self.slices, self.size, self.generator = slices, size, generator
        self.queue = torch.empty(0, dtype=torch.int64)

    def next(self) -> Tensor:
        """Returns the slice numbers of the next batch, (size,) int64."""
        while len(self.queue) < self.size:
            self.queue = torch.cat([self.queue, torch.randperm(self.slices, generator=self.generator)])
        batch, self.queue = self.queue[: self.size], self.queue[self.size :]
        return batch

    def state_dict(self) -> SamplerState:
        """Returns the generator's state and the slices that this pass has yet to see."""
        # the queue is a view into a longer tensor, which would be stored whole
        return {"generator": self.generator.get_state(), "queue": self.queue.clone()}

    def load_state_dict(self, state: SamplerState) -> None:
        """Restores what `state_dict` returned."""
        self.generator.set_state(state["generator"])
        self.queue = state["queue"]


def slices_per_batch(settings: Settings) -> int:
    """Returns the number of different slices in a batch: half of it if each comes augmented and plain."""
    size = settings.training.batch_size
    return size // 2 if settings.training.plain_half and settings.augmentation.enabled else size


def make_batch(
    store: SliceStore, numbers: Tensor, settings: Settings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns images (B, C, H, W) and labels (B, H, W): slices augmented, then, with plain_half, plain."""
    numbers = numbers.to(store.images.device)
    if not settings.augmentation.enabled:
        return store.plain(numbers)
    drawn = sample_augmentation(len(numbers), store.size, settings.augmentation, generator)
    moved, marked = apply_augmentation(
        store.images[numbers],
        store.labels[numbers],
        store.inside[numbers],
        drawn.to(store.images.device),
        size=store.size,
        rescale=store.rescale,
    )
    moved = with_random_networks(moved, settings.augmentation.random_networks, generator)
    if not settings.training.plain_half:
        return moved, marked.long()
    images, labels = store.plain(numbers)
    return torch.cat([moved, images]), torch.cat([marked.long(), labels])


def with_random_networks(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Passes each of the last `share` of images (B, C, H, W) through a random network, rescaled to [0, 1]."""
    count = round(share * len(images))
    if not count:
        return images
    last = images[-count:]
    looks = rescale_slices(transform(last, sample_networks(last, count, generator)))
    return torch.cat([images[:-count], looks])


def filled_share(store: SliceStore, settings: Settings, generator: torch.Generator) -> float:
    """Returns the mean share of an augmented crop that is beyond its scan, filled with the scan's edge."""
    if not settings.augmentation.enabled:
        return 0.0
    drawn = sample_augmentation(len(store), store.size, settings.augmentation, generator)
    drawn = drawn.to(store.images.device)
    return float(beyond(drawn, store.inside, store.canvas, store.size).mean())
