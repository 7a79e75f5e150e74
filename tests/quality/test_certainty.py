"""Expected Dice against the Dice of truths drawn by the probabilities; entropy against a slow version."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coopseg.measures.overlap import dice
from coopseg.quality.certainty import AROUND, EDGE, doubt_away_from_edges, expected_loss


def make(seed: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (3, 2, 20, 24) and the label map that they give."""
    logits = np.random.default_rng(seed).normal(0, sharpness, (3, 2, 20, 24))
    odds = np.exp(logits)
    probabilities = odds / odds.sum(0)
    return probabilities, probabilities.argmax(0)


@pytest.mark.parametrize("sharpness", [0.3, 1, 4])
def test_it_is_what_truths_of_these_probabilities_have(sharpness: float) -> None:
    probabilities, labels = make(0, sharpness)
    generator = np.random.default_rng(1)
    draws = (probabilities.cumsum(0)[None] < generator.random((200, 1, *labels.shape))).sum(1)
    found = np.mean([dice(labels, truth, classes=(1, 2)) for truth in draws], axis=0)
    np.testing.assert_allclose(1 - expected_loss(probabilities, labels), found, atol=0.01)


def test_sure_of_everything_and_of_nothing() -> None:
    labels = np.array([[[0, 1, 1, 0]]])
    assert expected_loss(np.eye(3)[labels].transpose(3, 0, 1, 2), labels).tolist() == [0, 0]
    assert expected_loss(np.full((3, 1, 1, 4), 1 / 3), labels)[1] == 1  # class 2 is probable, but nowhere


def slow_doubt(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Pixel by pixel: its square of 2 x AROUND + 1 holds something, that of 2 x EDGE + 1 one class alone."""
    found = []
    for z, y, x in np.ndindex(*labels.shape):
        near = labels[z, max(y - AROUND, 0) : y + AROUND + 1, max(x - AROUND, 0) : x + AROUND + 1]
        here = labels[z, max(y - EDGE, 0) : y + EDGE + 1, max(x - EDGE, 0) : x + EDGE + 1]
        if near.any() and (here == here.flat[0]).all():
            found.append(-sum(p * math.log(p) for p in probabilities[:, z, y, x]) / math.log(3))
    return sum(found) / len(found)


def test_entropy_pixel_by_pixel() -> None:
    probabilities, _ = make(2, 1)
    labels = np.zeros((2, 20, 24), int)
    labels[0, 3:12, 4:14], labels[0, 12:17, 4:14], labels[1, 8:16, 10:20] = 1, 2, 2
    assert doubt_away_from_edges(probabilities, labels) == pytest.approx(slow_doubt(probabilities, labels))


def test_nothing_labelled_is_all_doubt() -> None:
    assert doubt_away_from_edges(np.ones((2, 1, 8, 8)) / 2, np.zeros((1, 8, 8), int)) == 1
