"""Shares of loose voxels, counted by hand."""

from __future__ import annotations

import numpy as np

from coopseg.quality.broken import loose_share

NAMES = ("background", "LV", "MYO", "RV")


def test_counts_by_hand() -> None:
    labels = np.zeros((3, 12, 12), np.uint8)
    labels[:, 2:5, 2:5] = 1  # 27 voxels
    labels[1, 9, 9:11] = 1  # two apart
    labels[:, 2:5, 8:10] = 3
    found = loose_share(labels, NAMES, (10.0, 1.5, 1.5))
    np.testing.assert_allclose(found, [2 / 29, 0, 0])


def test_myocardium_hangs_together_by_way_of_the_lv() -> None:
    labels = np.zeros((1, 9, 9), np.uint8)
    labels[0, 4, 2], labels[0, 4, 3:6], labels[0, 4, 6] = 2, 1, 2
    assert loose_share(labels, NAMES, (10.0, 1.5, 1.5)).tolist() == [0, 0, 0]
    labels[0, 4, 4] = 0
    assert loose_share(labels, NAMES, (10.0, 1.5, 1.5))[1] == 0.5
