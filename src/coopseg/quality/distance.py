"""Measures how far a scan's code lies from those of the scans that a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coopseg.config.section import Section

LEAST_SPREAD = 0.05  # of the mean spread: a channel that is the same in every training scan says too much


class Reference(Section):
    """Holds mean and spread of each channel of the code over training scans.

    farthest: the largest distance among scans that are not unusual.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    farthest: float


def distance(code: np.ndarray, mean: Sequence[float], spread: Sequence[float]) -> float:
    """Returns the root mean square of the code's channels in spreads from their means.

    That is the distance of Mahalanobis with a diagonal covariance, over the root of the number of channels:
    1 for a typical scan of the training. code: (channels,), see `Opinions`.

    >>> distance(np.array([1.0, 4.0]), mean=[1.0, 2.0], spread=[1.0, 2.0])
    0.7071067811865476
    """
    apart = (code - np.asarray(mean)) / np.asarray(spread)
    return float(np.sqrt(np.mean(apart**2)))


def refer_to(training: Sequence[np.ndarray], usual: Sequence[np.ndarray]) -> Reference:
    """Makes a reference of the codes of training scans, and of other scans that are not unusual."""
    codes = np.stack(list(training))
    mean, spread = codes.mean(0), codes.std(0)
    spread = np.maximum(spread, max(LEAST_SPREAD * float(spread.mean()), 1e-6))
    farthest = max(distance(code, mean, spread) for code in (*training, *usual))
    return Reference(mean=tuple(mean.tolist()), spread=tuple(spread.tolist()), farthest=farthest)
