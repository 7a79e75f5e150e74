"""Compares plausible segmentations of one volume: where they differ, at most one of them is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coopseg.measures.overlap import dice


def disagreement(labels: np.ndarray, others: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Returns 1 minus the mean Dice of a label map and others, a value in [0, 1] for each structure.

    labels, others: class indices in one grid. classes: number of label values, background included.
    Roy et al. 2019 (NeuroImage, "Bayesian QuickNAT") predict Dice by such agreement of several passes.

    >>> disagreement(np.array([0, 1, 1]), [np.array([0, 1, 1]), np.array([0, 0, 1])], 2).round(3)
    array([0.167])
    """
    pairs = [dice(labels, other, classes=range(1, classes)) for other in others]
    found: np.ndarray = 1 - np.mean(pairs, axis=0)
    return found
