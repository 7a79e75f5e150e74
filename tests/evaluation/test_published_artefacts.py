"""The published artefacts: ranges of what is sampled, and motion that leaves the anatomy in place."""

from __future__ import annotations

import numpy as np
import torchio
from drawn_artefacts import SPACING, draw

from coopseg.evaluation.corruptions import Corruption, apply_corruption
from coopseg.evaluation.published_artefacts import (
    BIAS_COEFFICIENT,
    BIAS_ORDER,
    GHOST_INTENSITY,
    GHOSTS,
    MOVEMENTS,
    SPIKE_INTENSITY,
    SPIKES,
)


def test_ranges_are_those_of_torchio_1_2() -> None:
    """A TorchIO with other defaults would make another test set: notice it."""
    ghost, spike, bias = torchio.RandomGhosting(), torchio.RandomSpike(), torchio.RandomBiasField()
    assert tuple(ghost.num_ghosts_range) == GHOSTS
    assert tuple(ghost.intensity_range) == GHOST_INTENSITY
    assert ghost.restore is None
    assert tuple(spike.num_spikes_range) == (SPIKES, SPIKES)
    assert tuple(spike.intensity_range) == SPIKE_INTENSITY
    assert tuple(bias.coefficients_range) == (-BIAS_COEFFICIENT, BIAS_COEFFICIENT)
    assert bias.order == BIAS_ORDER
    assert torchio.RandomMotion().num_transforms == MOVEMENTS
    coefficients = draw("RandBias").parameters["coefficients"]
    assert len(coefficients) == len(bias.get_params(bias.order, bias.coefficients_range))


def test_samples_stay_in_their_ranges() -> None:
    for copy in range(200):
        ghost, spike = draw("RandGhost", copy).parameters, draw("RandSpike", copy).parameters
        assert 4 <= ghost["num_ghosts"] <= 10
        assert ghost["axis"] in (1, 2)
        assert 0.5 <= ghost["intensity"] <= 1
        assert 1 <= spike["intensity"] <= 3
        assert all(0 <= place < 1 for place in spike["spikes_positions"][0])
        assert all(abs(value) <= 0.5 for value in draw("RandBias", copy).parameters["coefficients"])
        motion = {name: np.array(value) for name, value in draw("RandMotion", copy).parameters.items()}
        assert np.all(motion["degrees"][:, 1:] == 0)
        assert np.all(motion["translation"][:, 0] == 0)
        assert 0 < np.abs(motion["degrees"][:, 0]).max() <= 30
        assert 0 < np.abs(motion["translation"][:, 1:]).max() <= 10
        assert 0.23 < motion["times"][0] < 0.44 < 0.56 < motion["times"][1] < 0.77


def test_motion_keeps_the_first_position_at_the_centre_of_k_space(volume: np.ndarray) -> None:
    """Columns of k-space between the two movements are the clean volume's, up to the factor of rescaling."""
    corruption = draw("RandMotion")
    moved = apply_corruption(volume, corruption, spacing=SPACING)
    begin, end = corruption.parameters["times"]
    frequencies = np.fft.fftshift(np.fft.fftfreq(48))
    reach = min(0.5 - begin, end - 0.5) - 1 / 48
    centre = (abs(frequencies) < reach) & (frequencies != 0)
    clean, dirty = (np.fft.fftshift(np.fft.fftn(v))[..., centre] for v in (volume, moved))
    factor = np.vdot(clean, dirty) / np.vdot(clean, clean)
    assert centre.sum() >= 5
    assert abs(factor.imag) < 1e-4
    np.testing.assert_allclose(dirty, factor * clean, atol=1e-4 * abs(clean).max())


def test_motion_rotates_about_the_middle_of_the_slice() -> None:
    """A disc there looks the same from every angle; turned about a corner it would be elsewhere."""
    rows, columns = np.mgrid[:65, :65] - 32
    disc = np.exp(-(rows**2 + columns**2) / 50)[None].repeat(3, 0)
    parameters = {"degrees": [[80.0, 0, 0]], "translation": [[0.0, 0, 0]], "times": [0.5]}
    found = apply_corruption(disc, Corruption("RandMotion", parameters), spacing=SPACING)
    assert np.abs(found - disc).max() < 0.02


def test_motion_needs_the_true_spacing(volume: np.ndarray) -> None:
    corruption = draw("RandMotion")
    finer = apply_corruption(volume, corruption, spacing=(10, 0.7, 0.7))
    assert np.abs(finer - apply_corruption(volume, corruption, spacing=SPACING)).max() > 0.05


def test_bias_is_a_smooth_factor() -> None:
    """Ratio to the clean volume: the exponential of a cubic, so that fourth differences of its log vanish."""
    volume = np.full((4, 32, 32), 0.5, np.float32)
    volume[:, 0, 0] = 0
    corruption = draw("RandBias")
    found = apply_corruption(volume, corruption, spacing=SPACING).astype(np.float64)
    differences = np.diff(np.log(found[:, 1:, 1:]), n=4, axis=1)
    assert np.abs(differences).max() < 1e-4
