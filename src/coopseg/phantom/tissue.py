"""Computes the signal of each tissue in a balanced steady-state free precession (bSSFP) sequence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

OFFSETS = np.arange(-1200, 1201, 4)  # Hz off resonance at which signals are tabulated
GYROMAGNETIC = 42.577  # MHz / T


class Tissue(IntEnum):
    """Numbers the tissues of a tissue map."""

    AIR = 0
    LUNG = 1
    FAT = 2
    MUSCLE = 3
    MARROW = 4
    CORTEX = 5
    BLOOD = 6
    MYOCARDIUM = 7
    LIVER = 8
    SPLEEN = 9
    STOMACH = 10
    FLUID = 11
    VENOUS = 12


@dataclass(frozen=True)
class Relaxation:
    """Describes a tissue.

    density: relative to water; t1, t2: ms at 1.5 T and 3 T; shift: of resonance, ppm;
    texture: relative standard deviation within the tissue.
    """

    density: float
    t1: tuple[float, float]
    t2: tuple[float, float]
    shift: float = 0.0
    texture: float = 0.04


# Relaxation times: Stanisz et al. 2005 (doi 10.1002/mrm.20605) and de Bazelaire et al. 2004
# (doi 10.1148/radiol.2303021331); fat: Gold et al. 2004 (doi 10.2214/ajr.183.2.1830343).
RELAXATION = {
    Tissue.AIR: Relaxation(0.0, (1000, 1000), (50, 50), texture=0.0),
    Tissue.LUNG: Relaxation(0.38, (1150, 1300), (40, 30), texture=0.3),
    Tissue.FAT: Relaxation(0.62, (288, 371), (165, 133), shift=-3.4, texture=0.07),
    Tissue.MUSCLE: Relaxation(0.85, (1010, 1410), (36, 32), texture=0.08),
    Tissue.MARROW: Relaxation(0.5, (550, 590), (49, 49), texture=0.15),
    Tissue.CORTEX: Relaxation(0.12, (600, 600), (6, 5), texture=0.1),
    Tissue.BLOOD: Relaxation(1.0, (1440, 1930), (250, 210), texture=0.1),
    Tissue.MYOCARDIUM: Relaxation(0.85, (1030, 1400), (48, 46), texture=0.05),
    Tissue.LIVER: Relaxation(0.66, (586, 809), (40, 32), texture=0.08),
    Tissue.SPLEEN: Relaxation(0.85, (1057, 1328), (79, 61), texture=0.06),
    Tissue.STOMACH: Relaxation(0.7, (900, 1100), (60, 50), texture=0.35),
    Tissue.FLUID: Relaxation(1.0, (4000, 4000), (1500, 1500), texture=0.03),
    Tissue.VENOUS: Relaxation(0.95, (1440, 1930), (150, 110), texture=0.05),
}


def steady_state(
    tissue: Relaxation, *, field: float, flip: float, repetition: float, offset: np.ndarray
) -> np.ndarray:
    """Returns the signed bSSFP signal at the echo, relative to M0 of water.

    The echo lies midway between pulses of alternating sign.
    field: tesla, 1.5 or 3. flip: degrees. repetition: ms. offset: Hz from the centre frequency, any shape.
    The sign turns at every dark band; fat lies one band away from water, so that they cancel if they
    share a voxel. Freeman and Hill 1971 (doi 10.1016/0022-2364(71)90008-1).
    """
    at_3t = field > 2
    e1, e2 = (np.exp(-repetition / times[at_3t]) for times in (tissue.t1, tissue.t2))
    sin, cos = np.sin(np.deg2rad(flip)), np.cos(np.deg2rad(flip))
    hertz = offset + tissue.shift * GYROMAGNETIC * field
    phase = 2 * np.pi * hertz * repetition / 1000
    below = (1 - e1 * cos) * (1 + e2 * np.cos(phase)) - e2 * (e1 - cos) * (e2 + np.cos(phase))
    return tissue.density * sin * (1 - e1) * np.sqrt(e2) * (1 + e2) * np.cos(phase / 2) / below


def signal_table(*, field: float, flip: float, repetition: float) -> np.ndarray:
    """Tabulates `steady_state` of every tissue at all OFFSETS, float32 (tissues, offsets)."""
    rows = [
        steady_state(RELAXATION[tissue], field=field, flip=flip, repetition=repetition, offset=OFFSETS)
        for tissue in Tissue
    ]
    return np.array(rows, np.float32)
