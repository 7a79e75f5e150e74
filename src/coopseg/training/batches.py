"""Training slices on the device, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coopseg.cases.prepare import Case
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.training.augmentation import apply_augmentation, sample_augmentation


@dataclass(frozen=True)
class SliceStore:
    """Every training slice, held on the device: ten subjects are some 25 MB.

    images: (N, 1, H, W) float32 in [0, 1]. labels: (N, H, W) int64. ids: a name for each slice.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]

    @classmethod
    def from_cases(cls, cases: Sequence[Case], device: torch.device | str = "cpu") -> SliceStore:
        """Stack the slices of labelled cases. Raises CoopsegError if there are none or one has no label."""
        if not cases:
            raise CoopsegError("no training cases: the split's training part is empty")
        for case in cases:
            if case.label is None:
                raise CoopsegError(f"{case.ref.image if case.ref else 'case'}: training needs a label")
        images = torch.from_numpy(np.concatenate([case.image for case in cases]))
        labels = torch.from_numpy(np.concatenate([case.label for case in cases if case.label is not None]))
        ids = tuple(
            f"{case.ref.id if case.ref else index}:slice{number}"
            for index, case in enumerate(cases)
            for number in range(len(case.image))
        )
        return cls(images.unsqueeze(1).to(device), labels.long().to(device), ids)

    def __len__(self) -> int:
        return len(self.ids)


class BatchSampler:
    """Slice numbers of each step: a new seeded order every pass, no slice twice before all came once."""

    def __init__(self, slices: int, size: int, generator: torch.Generator) -> None:
        self.slices, self.size, self.generator = slices, size, generator
        self.queue = torch.empty(0, dtype=torch.int64)

    def next(self) -> Tensor:
        """(size,) int64."""
        while len(self.queue) < self.size:
            self.queue = torch.cat([self.queue, torch.randperm(self.slices, generator=self.generator)])
        batch, self.queue = self.queue[: self.size], self.queue[self.size :]
        return batch


def slices_per_batch(settings: Settings) -> int:
    """Different slices in a batch: half of it where each comes augmented and plain."""
    size = settings.training.batch_size
    return size // 2 if settings.training.plain_half and settings.augmentation.enabled else size


def make_batch(
    store: SliceStore, numbers: Tensor, settings: Settings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images (B, 1, H, W) and labels (B, H, W): the slices augmented, then, with plain_half, as they are."""
    numbers = numbers.to(store.images.device)
    images, labels = store.images[numbers], store.labels[numbers]
    if not settings.augmentation.enabled:
        return images, labels
    size = (images.shape[2], images.shape[3])
    drawn = sample_augmentation(len(images), size, settings.augmentation, generator).to(images.device)
    moved, moved_labels = apply_augmentation(images, labels, drawn)
    if not settings.training.plain_half:
        return moved, moved_labels
    return torch.cat([moved, images]), torch.cat([moved_labels, labels])
