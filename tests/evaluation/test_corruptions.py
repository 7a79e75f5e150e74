"""Artefacts: ranges of what is sampled, replay, and anatomy that stays in step with its label."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torchio

from coopseg.errors import CoopsegError
from coopseg.evaluation.corruptions import (
    BIAS_COEFFICIENT,
    BIAS_ORDER,
    GHOST_INTENSITY,
    GHOSTS,
    KINDS,
    MOVEMENTS,
    SPIKE_INTENSITY,
    SPIKES,
    Corruption,
    apply_corruption,
    corruption_generator,
    sample_corruption,
)

SPACING = (10.0, 1.4, 1.4)


def draw(kind: str, copy: int = 1, severity: float = 1.0) -> Corruption:
    generator = corruption_generator(0, case="a", kind=kind, copy=copy)
    return sample_corruption(kind, generator, severity=severity)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """(5, 64, 48): a bright ring, off centre, on textured ground."""
    rows, columns = np.mgrid[:64, :48]
    radius = np.hypot(rows - 25, columns - 28)
    texture = np.random.default_rng(0).uniform(0, 0.3, (5, 64, 48))
    return (texture + 0.7 * ((radius > 6) & (radius < 12))).astype(np.float32)


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


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_from_json_alone(kind: str, volume: np.ndarray) -> None:
    corruption = draw(kind)
    again = Corruption(kind, json.loads(json.dumps(corruption.parameters)))
    torch.manual_seed(1)
    first = apply_corruption(volume, corruption, spacing=SPACING)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(apply_corruption(volume, again, spacing=SPACING), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.dtype, first.shape) == (np.float32, volume.shape)
    assert (first.min(), first.max()) == (0, 1)
    assert np.abs(first - volume).mean() > 0.01


def test_seeds_depend_on_every_name_and_on_nothing_else() -> None:
    numbers = {
        corruption_generator(seed, case=case, kind=kind, copy=copy).uniform()
        for seed in (0, 1)
        for case in ("a", "b")
        for kind in KINDS
        for copy in (1, 2)
    }
    assert len(numbers) == 32
    golden = corruption_generator(0, case="patient007_ED", kind="RandBias", copy=1).integers(2**62)
    assert golden == 2455199080025866126


@pytest.mark.parametrize("kind", KINDS)
def test_severity_nought_changes_nothing(kind: str, volume: np.ndarray) -> None:
    scaled = (volume - volume.min()) / (volume.max() - volume.min())
    found = apply_corruption(volume, draw(kind, severity=0), spacing=SPACING)
    np.testing.assert_allclose(found, scaled, atol=2e-6)


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


def test_motion_does_not_leak_between_slices(volume: np.ndarray) -> None:
    """In-plane angles and shifts: each slice comes out as it would alone, but for the common rescaling."""
    corruption = draw("RandMotion")
    whole = apply_corruption(volume, corruption, spacing=SPACING)
    alone = apply_corruption(volume[2:3], corruption, spacing=SPACING)
    correlation = np.corrcoef(whole[2].ravel(), alone[0].ravel())[0, 1]
    assert correlation > 0.999999


@pytest.mark.parametrize("kind", ["RandBias", "RandMotion", "RandGhost"])
def test_the_ring_stays_under_its_label(kind: str, volume: np.ndarray) -> None:
    """Of all shifts of the clean volume by up to three pixels, none at all fits the corrupted one best."""
    for copy in (1, 2, 3):
        dirty = apply_corruption(volume, draw(kind, copy), spacing=SPACING)
        fits = {
            (down, right): np.corrcoef(np.roll(volume, (down, right), (1, 2)).ravel(), dirty.ravel())[0, 1]
            for down in range(-3, 4)
            for right in range(-3, 4)
        }
        assert max(fits, key=lambda shift: fits[shift]) == (0, 0)


def test_bias_is_a_smooth_factor() -> None:
    """Ratio to the clean volume: the exponential of a cubic, so that fourth differences of its log vanish."""
    volume = np.full((4, 32, 32), 0.5, np.float32)
    volume[:, 0, 0] = 0
    corruption = draw("RandBias")
    found = apply_corruption(volume, corruption, spacing=SPACING).astype(np.float64)
    differences = np.diff(np.log(found[:, 1:, 1:]), n=4, axis=1)
    assert np.abs(differences).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.0, 0.4])
def test_blank_volumes_give_no_nan(kind: str, level: float) -> None:
    found = apply_corruption(np.full((3, 32, 32), level, np.float32), draw(kind), spacing=SPACING)
    assert np.isfinite(found).all()
    if level == 0 or kind in ("RandMotion", "RandGhost"):
        assert not found.any()


@pytest.mark.parametrize("kind", KINDS)
def test_one_slice(kind: str, volume: np.ndarray) -> None:
    found = apply_corruption(volume[:1], draw(kind), spacing=SPACING)
    assert found.shape == (1, 64, 48)
    assert found.std() > 0.05


def test_refuses() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(CoopsegError, match="unknown corruption 'RandNoise'; choose from RandBias"):
        sample_corruption("RandNoise", generator)
    with pytest.raises(CoopsegError, match="unknown corruption 'RandNoise'"):
        apply_corruption(np.zeros((2, 4, 4)), Corruption("RandNoise", {}), spacing=SPACING)
    with pytest.raises(CoopsegError, match="severity must be 0 or more"):
        sample_corruption("RandBias", generator, severity=-1)
    for bad in (np.zeros((4, 4)), np.full((1, 4, 4), np.nan)):
        with pytest.raises(CoopsegError, match=r"must be \(slices, H, W\) and finite"):
            apply_corruption(bad, draw("RandBias"), spacing=SPACING)
