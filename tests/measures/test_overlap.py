"""Dice against counts of sets and by hand; empty masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coopseg.errors import CoopsegError
from coopseg.measures.overlap import dice


def slow_dice(prediction: np.ndarray, target: np.ndarray, index: int) -> float:
    p = {place for place, value in np.ndenumerate(prediction) if value == index}
    t = {place for place, value in np.ndenumerate(target) if value == index}
    return 2 * len(p & t) / (len(p) + len(t)) if p or t else 1.0


@given(st.integers(0, 2**32 - 1), st.sampled_from([(7,), (4, 5), (3, 4, 5)]))
def test_dice_equals_the_definition_on_sets(seed: int, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(seed)
    prediction = generator.integers(0, 4, shape, dtype=np.uint8)
    target = generator.integers(0, 4, shape).astype(np.int32)
    expected = [slow_dice(prediction, target, index) for index in (3, 0, 1, 2)]
    np.testing.assert_allclose(dice(prediction, target, classes=(3, 0, 1, 2)), expected)


def test_empty_masks() -> None:
    nothing, something = np.zeros((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8)
    assert dice(nothing, nothing, classes=[1]) == [1]
    assert dice(nothing, something, classes=[1]) == [0]
    assert dice(something, nothing, classes=[1]) == [0]


def test_several_classes_by_hand() -> None:
    prediction, target = np.array([0, 0, 1, 1, 2]), np.array([1, 0, 1, 2, 2])
    assert dice(prediction, target, classes=(1, 2, 3)) == pytest.approx([1 / 2, 2 / 3, 1])


def test_small_values_do_not_overflow() -> None:
    full = np.ones((70, 70, 70), np.uint8)
    assert dice(full, full, classes=[1]) == [1]


def test_refuses_probabilities_and_other_grids() -> None:
    labels = np.zeros((2, 3), np.uint8)
    with pytest.raises(CoopsegError, match="prediction holds float64; give an integer array"):
        dice(np.zeros((2, 3)), labels, classes=[1])
    with pytest.raises(CoopsegError, match=r"shape \(3, 2\), target \(2, 3\)"):
        dice(labels.T, labels, classes=[1])
