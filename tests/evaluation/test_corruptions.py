"""Artefacts of both sets: replay, severity, and anatomy that stays in step with its label."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torchio
from drawn_artefacts import SPACING, draw, rescaled
from scipy.stats import kstest

from coopseg.errors import CoopsegError
from coopseg.evaluation.corruptions import (
    ALL_KINDS,
    BIAS_COEFFICIENT,
    BIAS_ORDER,
    CHOICE_KINDS,
    GHOST_INTENSITY,
    GHOSTS,
    KINDS,
    MOVEMENTS,
    SPIKE_INTENSITY,
    SPIKES,
    Corruption,
    apply_corruption,
    corruption_generator,
    find_kinds,
    sample_corruption,
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


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    """(2, 16, 12): with 0 and 1 in it, so that what is rescaled is the artefact alone."""
    return rescaled(np.random.default_rng(0).uniform(size=(2, 16, 12))).astype(np.float32)


def test_samples_to_choose_by_stay_in_their_ranges() -> None:
    found: dict[str, list[float]] = {}
    for copy in range(300):
        noise, blur = draw("RandNoise", copy).parameters, draw("RandBlur", copy).parameters
        assert (noise["mean"], blur["std"][0]) == (0, 0)
        bands = draw("RandBands", copy).parameters
        counts = {len(values) for values in bands.values()}
        assert len(counts) == 1
        drawn = {
            "noise": [noise["std"]],
            "blur": blur["std"][1:],
            "gamma": [math.log(draw("RandGamma", copy).parameters["gamma"])],
            "downsample": draw("RandDownsample", copy).parameters["factors"],
            "count": [*counts],
            **bands,
        }
        for name, values in drawn.items():
            found.setdefault(name, []).extend(values)
    limits = {
        "noise": (0.05, 0.15), "blur": (1.5, 3), "gamma": (-0.8, 0.8), "downsample": (2, 4), "count": (1, 2),
        "angles": (0, math.pi), "positions": (-0.2, 0.2), "widths": (0.04, 0.1), "depths": (0.7, 1.8),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        assert low <= min(found[name]) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(found[name]) <= high
    assert min(map(abs, found["gamma"])) >= 0.4


def test_severity_is_a_factor_on_the_strength_alone() -> None:
    full, half = (
        {kind: draw(kind, severity=value).parameters for kind in CHOICE_KINDS} for value in (1.0, 0.5)
    )
    assert half["RandNoise"] == full["RandNoise"] | {"std": full["RandNoise"]["std"] / 2}
    assert half["RandBlur"]["std"] == [std / 2 for std in full["RandBlur"]["std"]]
    assert half["RandGamma"]["gamma"] ** 2 == pytest.approx(full["RandGamma"]["gamma"])
    assert half["RandDownsample"]["factors"] == [(1 + f) / 2 for f in full["RandDownsample"]["factors"]]
    assert half["RandBands"] == full["RandBands"] | {"depths": [d / 2 for d in full["RandBands"]["depths"]]}


def test_noise_is_normal_and_from_its_seed(volume: np.ndarray) -> None:
    corruption = draw("RandNoise")
    generator = torch.Generator().manual_seed(corruption.parameters["seed"])
    noise = torch.randn(volume.shape, generator=generator).numpy()
    assert kstest(noise.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.06
    expected = rescaled(volume + corruption.parameters["std"] * noise)
    np.testing.assert_allclose(apply_corruption(volume, corruption, spacing=SPACING), expected, atol=1e-6)


def blurred_line(line: np.ndarray, std: float) -> np.ndarray:
    """Normalised Gaussian weights up to four deviations; the line goes on mirrored, edge pixel included."""
    reach = int(4 * std + 0.5)
    weights = [math.exp(-((step / std) ** 2) / 2) for step in range(-reach, reach + 1)]
    mirrored = [*line, *line[::-1]]
    return np.array(
        [
            sum(w * mirrored[(at + step) % len(mirrored)] for step, w in enumerate(weights, start=-reach))
            / sum(weights)
            for at in range(len(line))
        ]
    )


def test_blur_is_gaussian_in_millimetres(small: np.ndarray) -> None:
    corruption = draw("RandBlur")
    _, rows, columns = corruption.parameters["std"]
    expected = np.apply_along_axis(blurred_line, 1, small.astype(np.float64), rows / 1.4)
    expected = np.apply_along_axis(blurred_line, 2, expected, columns / 1.2)
    found = apply_corruption(small, corruption, spacing=(10, 1.4, 1.2))
    np.testing.assert_allclose(found, rescaled(expected), atol=1e-5)


def test_gamma_is_a_power(small: np.ndarray) -> None:
    for copy in (1, 2, 3):
        corruption = draw("RandGamma", copy)
        expected = [math.pow(value, corruption.parameters["gamma"]) for value in small.ravel().tolist()]
        found = apply_corruption(small, corruption, spacing=SPACING)
        np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)


def resampled_line(line: np.ndarray, size: int) -> np.ndarray:
    """Linear interpolation at the centres of `size` equal pixels, constant beyond the last centre."""
    centres = (np.arange(size) + 0.5) * len(line) / size - 0.5
    return np.asarray(np.interp(centres, np.arange(len(line)), line))


def test_downsampling_is_linear_between_pixel_centres(small: np.ndarray) -> None:
    corruption = draw("RandDownsample")
    expected = small.astype(np.float64)
    for axis, factor in zip((1, 2), corruption.parameters["factors"], strict=True):
        size = small.shape[axis]
        coarse = np.apply_along_axis(resampled_line, axis, expected, round(size / factor))
        assert coarse.shape[axis] < size
        expected = np.apply_along_axis(resampled_line, axis, coarse, size)
    found = apply_corruption(small, corruption, spacing=SPACING)
    np.testing.assert_allclose(found, rescaled(expected), atol=1e-5)


def test_bands_are_gaussian_stripes(small: np.ndarray) -> None:
    bands = {len(draw("RandBands", copy).parameters["depths"]): draw("RandBands", copy) for copy in range(9)}
    assert set(bands) == {1, 2}
    for corruption in bands.values():
        expected = small.astype(np.float64)
        for angle, position, width, depth in zip(*corruption.parameters.values(), strict=True):
            for row in range(16):
                for column in range(12):
                    across = math.cos(angle) * (row - 7.5) + math.sin(angle) * (column - 5.5)
                    profile = math.exp(-0.5 * ((across - position * 12) / (width * 12)) ** 2)
                    expected[:, row, column] *= math.exp(-depth * profile)
        found = apply_corruption(small, corruption, spacing=SPACING)
        np.testing.assert_allclose(found, rescaled(expected), atol=1e-6)


@pytest.mark.parametrize("kind", CHOICE_KINDS)
def test_a_disc_keeps_its_centre(kind: str) -> None:
    """Within half a pixel. A band darkens part of the disc, but what was above the ground stays above it."""
    rows, columns = np.mgrid[:64, :48]
    disc = (np.hypot(rows - 27.3, columns - 20.8) < 9).astype(np.float32)[None].repeat(3, 0)
    level = 0.01 if kind == "RandBands" else 0.5
    for copy in range(10):
        found = apply_corruption(disc, draw(kind, copy), spacing=SPACING)
        for clean, dirty in zip(disc > 0.5, found > level, strict=True):
            shift = np.argwhere(dirty).mean(0) - np.argwhere(clean).mean(0)
            assert np.abs(shift).max() < 0.5


def test_kinds_by_set_and_by_name() -> None:
    assert find_kinds("test") == KINDS == ("RandBias", "RandGhost", "RandMotion", "RandSpike")
    assert find_kinds("choice") == CHOICE_KINDS
    assert not set(KINDS) & set(CHOICE_KINDS)
    assert (
        find_kinds("RandBlur, RandBias") == find_kinds(["RandBlur", "RandBias"]) == ("RandBlur", "RandBias")
    )
    with pytest.raises(
        CoopsegError, match=r"unknown corruption 'all'; choose from test, choice, RandBias, .*Ban"
    ):
        find_kinds("all")
    with pytest.raises(CoopsegError, match="found RandBlur, RandBlur; name one or more, each once"):
        find_kinds("RandBlur,RandBlur")
    with pytest.raises(CoopsegError, match="found none"):
        find_kinds([])


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_replayed_from_json_alone(kind: str, volume: np.ndarray) -> None:
    corruption = draw(kind)
    again = Corruption(kind, json.loads(json.dumps(corruption.parameters)))
    torch.manual_seed(1)
    first = apply_corruption(volume, corruption, spacing=SPACING)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(apply_corruption(volume, again, spacing=SPACING), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.dtype, first.shape) == (np.dtype(np.float32), volume.shape)
    assert (first.min(), first.max()) == (0, 1)
    assert np.abs(first - volume).mean() > 0.01


def test_seeds_depend_on_every_name_and_on_nothing_else() -> None:
    numbers = {
        corruption_generator(seed, case=case, kind=kind, copy=copy).uniform()
        for seed in (0, 1)
        for case in ("a", "b")
        for kind in ALL_KINDS
        for copy in (1, 2)
    }
    assert len(numbers) == 8 * len(ALL_KINDS)
    golden = corruption_generator(0, case="patient007_ED", kind="RandBias", copy=1).integers(2**62)
    assert golden == 2455199080025866126


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_severity_nought_changes_nothing(kind: str, volume: np.ndarray) -> None:
    """Not even rounding, nor a range that is not [0, 1]; a weak artefact is one."""
    for factor in (0.5, 1.5):
        given = (factor * volume).astype(np.float32)
        found = apply_corruption(given, draw(kind, severity=0), spacing=SPACING)
        np.testing.assert_array_equal(found, given)
    assert not draw(kind, severity=0.001).is_none


@pytest.mark.parametrize("kind", ["RandMotion", *CHOICE_KINDS])
def test_slices_do_not_leak_into_each_other(kind: str, volume: np.ndarray) -> None:
    """Another slice in the middle changes the others by the common rescaling at most."""
    other = volume.copy()
    other[2] = np.random.default_rng(1).uniform(0, 1, other[2].shape)
    first, second = (apply_corruption(each, draw(kind), spacing=SPACING) for each in (volume, other))
    for index in (0, 1, 3, 4):
        assert np.corrcoef(first[index].ravel(), second[index].ravel())[0, 1] > 0.999999
    assert np.corrcoef(first[2].ravel(), second[2].ravel())[0, 1] < 0.9


@pytest.mark.parametrize("kind", ["RandBias", "RandMotion", "RandGhost", *CHOICE_KINDS])
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


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("level", [0.0, 0.4])
def test_blank_volumes_give_no_nan(kind: str, level: float) -> None:
    found = apply_corruption(np.full((3, 32, 32), level, np.float32), draw(kind), spacing=SPACING)
    assert np.isfinite(found).all()
    if (level == 0 and kind != "RandNoise") or kind in (
        "RandMotion",
        "RandGhost",
        "RandBlur",
        "RandGamma",
        "RandDownsample",
    ):
        assert not found.any()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_one_slice(kind: str, volume: np.ndarray) -> None:
    found = apply_corruption(volume[:1], draw(kind), spacing=SPACING)
    assert found.shape == (1, 64, 48)
    assert found.std() > 0.05


def test_refuses() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(CoopsegError, match="unknown corruption 'RandSwap'; choose from RandBias"):
        sample_corruption("RandSwap", generator)
    with pytest.raises(CoopsegError, match="unknown corruption 'RandSwap'"):
        apply_corruption(np.zeros((2, 4, 4)), Corruption("RandSwap", {}), spacing=SPACING)
    with pytest.raises(CoopsegError, match="severity must be 0 or more"):
        sample_corruption("RandBias", generator, severity=-1)
    for bad in (np.zeros((4, 4)), np.full((1, 4, 4), np.nan)):
        with pytest.raises(
            CoopsegError, match=r"must be \(slices, H, W\) or \(channels, slices, H, W\) and finite"
        ):
            apply_corruption(bad, draw("RandBias"), spacing=SPACING)
