"""Disagreement by counting voxels."""

from __future__ import annotations

import numpy as np

from coopseg.quality.agreement import disagreement


def test_counts_by_hand() -> None:
    labels = np.array([0, 1, 1, 2, 2, 2])
    others = [np.array([0, 1, 0, 2, 2, 2]), np.array([1, 1, 1, 0, 0, 0])]
    first = [1 - 2 / 3, 0]  # one of three voxels of class 1 is missing, class 2 is the same
    second = [1 - 4 / 5, 1]  # one more of class 1, none of class 2
    np.testing.assert_allclose(disagreement(labels, others, 3), np.mean([first, second], axis=0))


def test_nothing_in_both_is_agreement() -> None:
    nothing = np.zeros((2, 3, 3), np.uint8)
    assert disagreement(nothing, [nothing, nothing], 4).tolist() == [0, 0, 0]
