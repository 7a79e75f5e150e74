"""Defines four made-up scanners. One has the training data; the others differ as hospitals' scanners do."""

from __future__ import annotations

from dataclasses import dataclass


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
