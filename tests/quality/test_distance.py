"""Distance against scipy's Mahalanobis distance; what a reference keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from coopseg.quality.distance import distance, refer_to


def test_equals_mahalanobis_with_a_diagonal() -> None:
    generator = np.random.default_rng(0)
    mean, spread, code = generator.normal(size=12), generator.uniform(0.5, 2, 12), generator.normal(size=12)
    expected = mahalanobis(code, mean, np.diag(spread**-2.0)) / math.sqrt(12)
    assert distance(code, mean.tolist(), spread.tolist()) == pytest.approx(expected)


def test_farthest_is_of_all_known_scans() -> None:
    training = list(np.random.default_rng(1).normal(size=(50, 4)))
    far = np.array([9.0, 0, 0, 0])
    near, all_known = refer_to(training, []), refer_to(training, [far])
    assert near.farthest < all_known.farthest == distance(far, near.mean, near.spread)


def test_a_channel_that_is_always_the_same_does_not_rule() -> None:
    training = [np.array([value, 1.0]) for value in (-1.0, 0.0, 1.0)]
    found = refer_to(training, [])
    assert distance(np.array([0.0, 1.01]), found.mean, found.spread) < 1
