"""Scores overlap: Dice, with a stated rule for empty masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coopseg.errors import CoopsegError


def dice(prediction: np.ndarray, target: np.ndarray, *, classes: Sequence[int]) -> np.ndarray:
    """Computes each class's Dice coefficient 2·|P ∩ T| / (|P| + |T|) over all voxels of a volume (Dice 1945).

    prediction, target: integer arrays of one shape, any number of axes; a value is a class index.
    classes: the class indices to score, in the order of the result.
    Returns (len(classes),) float64 in [0, 1]. The score is 1 if a class is in neither map, and 0 if it is in
    one map only.
    Raises CoopsegError if shapes differ or an array is not of integers.

    >>> dice(np.array([0, 1, 1]), np.array([0, 1, 2]), classes=(1, 2, 3)).round(3).tolist()
    [0.667, 0.0, 1.0]
    """
    for name, array in (("prediction", prediction), ("target", target)):
        if not np.issubdtype(array.dtype, np.integer):
            raise CoopsegError(f"{name} holds {array.dtype}; give an integer array of class indices")
    if prediction.shape != target.shape:
        raise CoopsegError(
            f"prediction has shape {prediction.shape}, target {target.shape}; give both in one grid"
        )
    scores = []
    for index in classes:
        p, t = prediction == index, target == index
        total = np.count_nonzero(p) + np.count_nonzero(t)
        scores.append(2 * np.count_nonzero(p & t) / total if total else 1.0)
    return np.array(scores, dtype=np.float64)
