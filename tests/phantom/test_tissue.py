"""The signal equation against a simulation of the pulses, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from coopseg.phantom.site import SITES, Site
from coopseg.phantom.tissue import (
    OFFSETS,
    RELAXATION,
    Relaxation,
    Tissue,
    signal_table,
    steady_state,
)


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
