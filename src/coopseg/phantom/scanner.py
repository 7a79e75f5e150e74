"""Describes made-up scanners: their protocols, the signal of each tissue, coils, k-space and noise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.fft import fft2, fftshift, ifft2, ifftshift


@dataclass(frozen=True)
class Site:
    """Describes a scanner and its protocol for cine imaging."""

    name: str
    vendor: str  # letter, as in M&Ms
    centre: int
    field: float  # tesla
    flip: float  # degrees
    repetition: float  # ms
    view: tuple[float, float]  # mm, columns and rows
    zoom: float  # greatest relative deviation of a patient's field of view
    matrix: tuple[int, int]  # columns and rows of the image
    acquired: tuple[float, float]  # share of the matrix that is measured; the rest is filled with zeros
    window: float  # width of the k-space filter: 0 none (ringing), 1 a Hann window
    thickness: float  # mm
    distance: float  # mm from slice to slice
    snr: float  # of blood in the middle of the heart
    coil: float  # mm over which a surface coil's sensitivity falls
    correction: float  # share of the coils' shading that is corrected
    shim: float  # Hz of off-resonance near the middle, standard deviation
    level: float  # stored intensity of blood
    oblique: bool  # whether the affine holds the slices' true orientation


SITES = (
    Site("Phantom A", "A", 0, field=1.5, flip=55, repetition=3.3, view=(360, 304), zoom=0.08,
         matrix=(256, 216), acquired=(0.75, 0.68), window=0.45, thickness=7, distance=10, snr=75, coil=120,
         correction=0.4, shim=18, level=320, oblique=False),
    Site("Phantom B", "B", 1, field=1.5, flip=52, repetition=3.4, view=(340, 340), zoom=0.06,
         matrix=(240, 240), acquired=(0.7, 0.6), window=0.6, thickness=8, distance=9.5, snr=26, coil=68,
         correction=0.0, shim=35, level=420, oblique=True),
    Site("Phantom C", "C", 2, field=1.5, flip=65, repetition=2.8, view=(300, 300), zoom=0.05,
         matrix=(240, 240), acquired=(0.95, 0.85), window=0.0, thickness=8, distance=10, snr=22, coil=180,
         correction=0.8, shim=14, level=130, oblique=True),
    Site("Phantom D", "D", 3, field=3.0, flip=33, repetition=3.2, view=(400, 340), zoom=0.05,
         matrix=(288, 244), acquired=(0.7, 0.6), window=0.4, thickness=6, distance=8, snr=34, coil=110,
         correction=0.3, shim=55, level=900, oblique=True),
)  # fmt: skip


FINE = 2  # samples per pixel along each axis
# levels as shares of the slice's thickness, from its middle; a pixel holds every level once
STAGGER = np.array([[-0.375, 0.125], [0.375, -0.125]], np.float32)


@dataclass(frozen=True)
class Grid:
    """Describes an image plane: x right, y down, in mm from the middle. columns, rows: pixels; pixel: mm."""

    columns: int
    rows: int
    pixel: float

    def axes(self, fine: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Returns x and y (float32) of the centres of `fine` samples per pixel."""
        return tuple(  # type: ignore[return-value]  # of two
            ((np.arange(n * fine, dtype=np.float32) + 0.5) / fine - n / 2) * np.float32(self.pixel)
            for n in (self.columns, self.rows)
        )

    def stagger(self, thickness: float) -> np.ndarray:
        """Returns how many mm each sample lies below the slice's middle, (FINE × columns, FINE × rows)."""
        return np.tile(STAGGER * np.float32(thickness), (self.columns, self.rows))


def to_pixels(samples: np.ndarray) -> np.ndarray:
    """Averages the samples of each pixel: (FINE × X, FINE × Y) to (X, Y)."""
    columns, rows = (n // FINE for n in samples.shape)
    return samples.reshape(columns, FINE, rows, FINE).mean((1, 3))


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
    """Describes how a tissue relaxes.

    density: relative to water; t1, t2: ms at 1.5 T and 3 T; shift: of resonance, ppm; texture: relative
    standard deviation within the tissue.
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


def coil_shading(site: Site, places: np.ndarray, x: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """Returns the root of the sum of squares of the coils' sensitivities, (len(x), len(y)).

    places: (n, 3) mm of each coil to the right, down and towards the apex. x, y, level: mm, the same axes.
    """
    total = np.zeros((len(x), len(y)), np.float32)
    for right, down, along in places.astype(np.float32):
        square = (x[:, None] - right) ** 2 + (y - down) ** 2 + np.float32((level - along) ** 2)
        total += 1 / (1 + square / np.float32(site.coil**2)) ** 3
    return np.sqrt(total)


def acquire(
    signal: np.ndarray, shading: np.ndarray, site: Site, noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Makes magnitude images, float32 (slices, X, Y), of signed `signal` seen with `shading`, same shape.

    noise: standard deviation of each channel in the image. Noise enters k-space within the measured
    matrix, so that its grain has the acquired resolution; the magnitude makes it Rician.
    """
    shape = signal.shape[1:]
    inner = tuple(2 * max(round(n * share / 2), 4) for n, share in zip(shape, site.acquired, strict=True))
    start = [n // 2 - m // 2 for n, m in zip(shape, inner, strict=True)]
    part = (slice(None), *(slice(s, s + m) for s, m in zip(start, inner, strict=True)))
    space = fftshift(fft2(signal * shading), axes=(1, 2))
    measured = space[part]
    size = np.float32(noise * np.sqrt(np.prod(shape) * np.prod(shape) / np.prod(inner)))
    grain = rng.standard_normal((2, *measured.shape), np.float32) * size
    measured = (measured + grain[0] + 1j * grain[1]) * _window(inner, site.window)
    space[:] = 0
    space[part] = measured
    image = np.abs(ifft2(ifftshift(space, axes=(1, 2))))
    return image / shading ** np.float32(site.correction)


def _window(shape: tuple[int, ...], strength: float) -> np.ndarray:
    """Makes a filter that is a raised cosine along each axis, falling to 1 - strength at the ends."""
    sides = [1 - strength * (1 - np.cos(np.pi * np.linspace(-1, 1, n, dtype=np.float32))) / 2 for n in shape]
    return np.outer(*sides)
