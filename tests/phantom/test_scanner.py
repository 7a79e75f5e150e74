"""Scanners: coils and noise, sampling, signals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coopseg.phantom.scanner import (
    FINE,
    OFFSETS,
    RELAXATION,
    SITES,
    Grid,
    Relaxation,
    Site,
    Tissue,
    acquire,
    coil_shading,
    signal_table,
    steady_state,
    to_pixels,
)

PLAIN = replace(SITES[0], acquired=(1.0, 1.0), window=0.0, correction=0.0)


def test_a_whole_matrix_without_noise_is_the_signal() -> None:
    rng = np.random.default_rng(0)
    signal, shading = rng.normal(size=(2, 24, 20)), rng.uniform(0.5, 1, (2, 24, 20))
    found = acquire(signal, shading, PLAIN, 0.0, rng)
    np.testing.assert_allclose(found, abs(signal * shading), atol=1e-6)
    corrected = acquire(signal, shading, replace(PLAIN, correction=1.0), 0.0, rng)
    np.testing.assert_allclose(corrected, abs(signal), atol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_noise_has_the_stated_spread(share: float) -> None:
    site = replace(PLAIN, acquired=(share, share))
    flat = np.ones((4, 80, 80), np.float32)
    rng = np.random.default_rng(1)
    assert acquire(10 * flat, flat, site, 0.3, rng).std() == pytest.approx(0.3, rel=0.05)
    # in air both channels are noise: Rayleigh, with mean sigma times the root of pi / 2
    assert acquire(0 * flat, flat, site, 0.3, rng).mean() == pytest.approx(0.3 * np.sqrt(np.pi / 2), rel=0.03)


def test_fewer_data_blur_and_ring() -> None:
    signal = np.zeros((1, 64, 64), np.float32)
    signal[:, 20:44] = 1
    flat, rng = np.ones_like(signal), np.random.default_rng(0)
    coarse = acquire(signal, flat, replace(PLAIN, acquired=(0.4, 1.0)), 0.0, rng)[0, :, 32]
    assert coarse.max() > 1.05  # Gibbs: about 9 % of the step
    assert 0.2 < coarse[19] + coarse[20] < 1.8
    smooth = acquire(signal, flat, replace(PLAIN, acquired=(0.4, 1.0), window=1.0), 0.0, rng)[0, :, 32]
    assert smooth.max() < 1.02


def test_coils_are_brightest_where_they_lie() -> None:
    axis = np.linspace(-100, 100, 41)
    places = np.array([[-80.0, 50.0, 0.0]])
    shading = coil_shading(SITES[0], places, axis, axis, 0.0)
    assert tuple(map(int, np.unravel_index(shading.argmax(), shading.shape))) == (4, 30)
    assert coil_shading(SITES[0], places, axis, axis, 40.0).max() < shading.max()


GRID = Grid(columns=4, rows=6, pixel=1.5)


def test_a_pixel_is_the_mean_of_its_samples_and_lies_in_their_middle() -> None:
    fine, coarse = GRID.axes(FINE), GRID.axes()
    for axis in (0, 1):
        samples = np.broadcast_to(fine[axis][:, None] if axis == 0 else fine[axis], (8, 12))
        pixels = np.broadcast_to(coarse[axis][:, None] if axis == 0 else coarse[axis], (4, 6))
        np.testing.assert_allclose(to_pixels(samples), pixels, atol=1e-6)
        assert coarse[axis].sum() == 0


def test_every_pixel_holds_every_level_of_its_slice_once() -> None:
    levels = GRID.stagger(8.0)
    np.testing.assert_allclose(to_pixels(levels), 0, atol=1e-6)
    for i, j in np.ndindex(4, 6):
        assert sorted(levels[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel()) == [-3, -1, 1, 3]


def simulate(tissue: Relaxation, site: Site, offset: float) -> float:
    """Length of the transverse magnetisation midway between pulses, after so many that it is steady."""
    at_3t = site.field > 2
    half = site.repetition / 2
    e1, e2 = (np.exp(-half / times[at_3t]) for times in (tissue.t1, tissue.t2))
    turn = 2 * np.pi * (offset + tissue.shift * 42.577 * site.field) * half / 1000
    cos, sin = np.cos(turn), np.sin(turn)
    wait = np.diag([e2, e2, e1]) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    magnetisation, density = np.array([0.0, 0.0, tissue.density]), tissue.density
    for pulse in range(3000):
        flip = np.deg2rad(site.flip) * (-1) ** pulse
        cos, sin = np.cos(flip), np.sin(flip)
        magnetisation = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]]) @ magnetisation
        magnetisation = wait @ magnetisation + [0, 0, density * (1 - e1)]
        echo = magnetisation
        magnetisation = wait @ magnetisation + [0, 0, density * (1 - e1)]
    return float(np.hypot(*echo[:2]))


@pytest.mark.parametrize("kind", [Tissue.BLOOD, Tissue.MYOCARDIUM, Tissue.FAT, Tissue.LIVER])
@pytest.mark.parametrize("site", [SITES[0], SITES[3]], ids=lambda site: site.name)
def test_the_equation_is_that_of_the_pulses(kind: Tissue, site: Site) -> None:
    for offset in (0.0, 40.0, -90.0):
        found = steady_state(
            RELAXATION[kind], field=site.field, flip=site.flip, repetition=site.repetition,
            offset=np.array(offset),
        )  # fmt: skip
        assert abs(found) == pytest.approx(simulate(RELAXATION[kind], site, offset), rel=0.02)


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_contrast_of_the_heart(site: Site) -> None:
    table = signal_table(field=site.field, flip=site.flip, repetition=site.repetition)
    signal = dict(zip(Tissue, table[:, len(OFFSETS) // 2], strict=True))
    assert signal[Tissue.AIR] == 0
    assert signal[Tissue.BLOOD] > 2 * signal[Tissue.MYOCARDIUM] > 0
    assert signal[Tissue.MYOCARDIUM] > 2 * signal[Tissue.LUNG]
    assert signal[Tissue.FAT] < 0  # against water: their border is black
    assert abs(signal[Tissue.FAT]) > signal[Tissue.MYOCARDIUM]


def test_dark_bands_lie_half_a_turn_from_the_middle() -> None:
    site = SITES[0]
    band = 1000 / (2 * site.repetition)
    around = np.array([0, band - 0.01, band + 0.01])
    middle, before, behind = steady_state(
        RELAXATION[Tissue.BLOOD], field=site.field, flip=site.flip, repetition=site.repetition, offset=around
    )
    assert 0 < before < 0.01 * middle
    assert before == pytest.approx(-behind, rel=0.01)
