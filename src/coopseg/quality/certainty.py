"""Reads from a network's own probabilities how sure it is."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

EDGE = 2  # pixels on both sides of an outline; doubt there is usual
AROUND = 5  # pixels around what is labelled in which doubt counts
SQUARE = np.ones((1, 3, 3), bool)


def expected_loss(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns 1 minus the Dice that is expected if the probabilities are right, for each structure.

    With p_c the probability of class c, and P the pixels that the label map calls c, the expected overlap is
    Σ_P p_c and the expected size of the truth Σ p_c, so that Dice is about 2 Σ_P p_c / (|P| + Σ p_c): the
    soft Dice of a prediction with itself, as in Li et al. 2022, "Estimating model performance under domain
    shifts with class-specific confidence scores".
    probabilities: (classes, slices, H, W). labels: (slices, H, W). Returns values in [0, 1], (classes - 1,);
    0 for a structure that is nowhere and nowhere probable.

    >>> expected_loss(np.array([[[[0.0, 0.5]]], [[[1.0, 0.5]]]]), np.array([[[1, 1]]]))
    array([0.14285714])
    """
    losses = []
    for index in range(1, len(probabilities)):
        own = labels == index
        overlap = probabilities[index][own].sum(dtype=np.float64)
        total = np.count_nonzero(own) + probabilities[index].sum(dtype=np.float64)
        losses.append(1 - 2 * overlap / total if total > 0 else 0.0)
    return np.array(losses)


def doubt_away_from_edges(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean entropy in and around what is labelled, but not near outlines, in [0, 1].

    probabilities: (classes, slices, H, W). labels: (slices, H, W). 1 is the entropy of equal probabilities,
    and what is returned if nothing is labelled.

    >>> probabilities = np.full((2, 1, 20, 20), 0.5)
    >>> labels = np.zeros((1, 20, 20), int); labels[:, 5:15, 5:15] = 1
    >>> doubt_away_from_edges(probabilities, labels)
    1.0
    """
    around = ndimage.binary_dilation(labels > 0, SQUARE, iterations=AROUND)
    edge = np.zeros_like(around)
    for index in np.unique(labels):
        own = labels == index
        inside = ndimage.binary_erosion(own, SQUARE, iterations=EDGE, border_value=1)
        edge |= ndimage.binary_dilation(own, SQUARE, iterations=EDGE) & ~inside
    counted = around & ~edge
    if not counted.any():
        return 1.0
    values = probabilities[:, counted].astype(np.float64)
    entropy = -(values * np.log(values.clip(1e-12))).sum(0) / np.log(len(probabilities))
    return float(entropy.mean())
