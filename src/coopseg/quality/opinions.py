"""Holds what the networks say of one volume, in more ways than one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from coopseg.latent.masks import LatentMasks

DRAWS = 4  # masked codes that are decoded
# Each channel becomes 0 with this probability, and the others are scaled to keep the mean. Of the masks that
# were tried this one tells most: harder ones spoil good segmentations too (docs/research.md). Whether a
# channel is dead plays no part in it, so no time is spent on finding out.
MASKS = LatentMasks(scheme="dropout", p=0.3, published_dropout=True, skip_dead=False)


@dataclass(frozen=True)
class Opinions:
    """Holds what one pass says of a volume, in the grid that the networks see.

    probabilities: of each head, (classes, slices, H, W) float32. masked: label maps of the FTN whose codes
    were masked, (slices, H, W) uint8 each. code: mean of the shape code over slices and positions, a value a
    channel. masked and code are empty for networks that do not show their codes. spacing: mm between slices,
    rows and columns.
    """

    probabilities: Mapping[str, np.ndarray]
    masked: Sequence[np.ndarray]
    code: np.ndarray
    spacing: tuple[float, float, float]

    def labels(self, head: str) -> np.ndarray:
        """Returns the class indices of a head, (slices, H, W) uint8."""
        return self._labels[head]

    @cached_property
    def _labels(self) -> dict[str, np.ndarray]:
        """Found once, since every sign asks for them."""
        return {head: values.argmax(0).astype(np.uint8) for head, values in self.probabilities.items()}

    def found(self, head: str) -> np.ndarray:
        """Returns which structures the label map of a head has, (classes - 1,) bool."""
        return np.isin(np.arange(1, len(self.probabilities[head])), self.labels(head))
