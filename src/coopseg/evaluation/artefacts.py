"""Defines the MR artefacts: how the parameters of each are drawn, and the transform that they make.

PUBLISHED has the four of the published test (Chen et al. 2021, section 3). Their models are TorchIO's
(Pérez-García et al. 2021, version 1.x). Their ranges are the paper's settings: for RandMotion 30 degrees and
10 mm, otherwise TorchIO 1.2's defaults, spelled out because defaults change between versions.

CHOICE has five of other families, to choose settings by. Noise, blur and gamma are TorchIO's. The other two
are this project's: TorchIO has no dark bands, and its Resample rounds the coarse grid down, which leaves a
black edge. The ranges are this project's too, chosen by eye so that an image at severity 1 is clearly worse
and still readable. All five work within slices, because slices lie about 10 mm apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torchio
from torch.nn.functional import interpolate

from coopseg.text import Json

BIAS_ORDER = 3  # order of the polynomial in three coordinates, which has 20 coefficients
BIAS_COEFFICIENT = 0.5  # each from U(−0.5, 0.5); the field is the exponential of the polynomial
GHOSTS = (4, 10)  # whole numbers, both ends included
GHOST_INTENSITY = (0.5, 1.0)  # 1 removes every n-th plane of k-space
GHOST_AXES = (1, 2)  # rows and columns; along the slice axis there is no k-space in a multi-slice scan
MOTION_DEGREES = 30.0  # from U(−30, 30)
MOTION_TRANSLATION = 10.0  # millimetres, from U(−10, 10)
MOVEMENTS = 2  # positions besides the first one
MOTION_JITTER = 0.3  # as a fraction of the interval between movements
SPIKES = 1
SPIKE_INTENSITY = (1.0, 3.0)  # as a multiple of the maximum of k-space

NOISE_STD = (0.05, 0.15)  # as a fraction of the volume's range; Gaussian, not Rician
BLUR_STD = (1.5, 3.0)  # millimetres, along rows and along columns
LOG_GAMMA = (0.4, 0.8)  # natural logarithm of the exponent, with either sign
DOWNSAMPLING = (2.0, 4.0)  # pixels of the volume per pixel of the coarse grid, along rows and along columns
BANDS = (1, 2)  # whole numbers, both ends included
BAND_DEPTH = (0.7, 1.8)  # at the middle of a band the signal is exp(−depth) of what it was
BAND_WIDTH = (0.04, 0.1)  # standard deviation of the profile, as a fraction of the slice's shorter side
BAND_POSITION = (-0.2, 0.2)  # distance from the slice's middle, where the heart is, in the same unit
BAND_KEYS = ("angles", "positions", "widths", "depths")

Parameters = Json  # of one artefact; the manifest stores them


@dataclass(frozen=True)
class Artefact:
    """Holds the two halves of an artefact: the draw, as (generator, severity), and the pure transform."""

    sample: Callable[[np.random.Generator, float], Parameters]
    transform: Callable[[Parameters], torchio.Transform]


def _sample_bias(generator: np.random.Generator, severity: float) -> Parameters:
    count = (BIAS_ORDER + 1) * (BIAS_ORDER + 2) * (BIAS_ORDER + 3) // 6
    limit = BIAS_COEFFICIENT * severity
    return {"coefficients": generator.uniform(-limit, limit, count).tolist(), "order": BIAS_ORDER}


def _sample_ghost(generator: np.random.Generator, severity: float) -> Parameters:
    return {
        "num_ghosts": int(generator.integers(GHOSTS[0], GHOSTS[1], endpoint=True)),
        "axis": int(generator.choice(GHOST_AXES)),
        "intensity": float(generator.uniform(*GHOST_INTENSITY)) * severity,
        "restore": None,  # only the central plane
    }


def _sample_motion(generator: np.random.Generator, severity: float) -> Parameters:
    degrees, shifts = np.zeros((MOVEMENTS, 3)), np.zeros((MOVEMENTS, 3))
    # Axis 0 is the slice axis: rotate about it, shift along the other two.
    degrees[:, 0] = generator.uniform(-MOTION_DEGREES, MOTION_DEGREES, MOVEMENTS) * severity
    shifts[:, 1:] = generator.uniform(-MOTION_TRANSLATION, MOTION_TRANSLATION, (MOVEMENTS, 2)) * severity
    step = 1 / (MOVEMENTS + 1)
    times = step * np.arange(1, MOVEMENTS + 1)
    times += generator.uniform(-step * MOTION_JITTER, step * MOTION_JITTER, MOVEMENTS)
    return {"degrees": degrees.tolist(), "translation": shifts.tolist(), "times": times.tolist()}


def _motion(parameters: Parameters) -> torchio.Transform:
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    return torchio.Motion(**arrays, image_interpolation="linear")


def _sample_spike(generator: np.random.Generator, severity: float) -> Parameters:
    positions = generator.uniform(size=(SPIKES, 3)).tolist()
    return {"spikes_positions": positions, "intensity": float(generator.uniform(*SPIKE_INTENSITY)) * severity}


def _spike(parameters: Parameters) -> torchio.Transform:
    return torchio.Spike(np.asarray(parameters["spikes_positions"]), parameters["intensity"])


def _sample_noise(generator: np.random.Generator, severity: float) -> Parameters:
    std = float(generator.uniform(*NOISE_STD)) * severity
    return {"mean": 0.0, "std": std, "seed": int(generator.integers(2**31))}


def _sample_blur(generator: np.random.Generator, severity: float) -> Parameters:
    return {"std": [0.0, *(generator.uniform(*BLUR_STD, 2) * severity).tolist()]}


def _sample_gamma(generator: np.random.Generator, severity: float) -> Parameters:
    sign = float(generator.choice((-1, 1)))
    return {"gamma": float(np.exp(sign * generator.uniform(*LOG_GAMMA) * severity))}


def _sample_downsample(generator: np.random.Generator, severity: float) -> Parameters:
    return {"factors": (1 + (generator.uniform(*DOWNSAMPLING, 2) - 1) * severity).tolist()}


def _downsample(parameters: Parameters) -> torchio.Transform:
    """Resamples linearly onto a coarse grid with the same outer edges and back; nothing is shifted."""

    def apply(tensor: torch.Tensor) -> torch.Tensor:
        fine, factors = tuple(tensor.shape[2:]), parameters["factors"]
        coarse = [max(1, round(size / factor)) for size, factor in zip(fine, factors, strict=True)]
        return interpolate(interpolate(tensor, size=coarse, mode="bilinear"), size=fine, mode="bilinear")

    return torchio.Lambda(apply)


def _sample_bands(generator: np.random.Generator, severity: float) -> Parameters:
    count = int(generator.integers(BANDS[0], BANDS[1], endpoint=True))
    return {
        "angles": generator.uniform(0, np.pi, count).tolist(),  # of the direction across the band
        "positions": generator.uniform(*BAND_POSITION, count).tolist(),
        "widths": generator.uniform(*BAND_WIDTH, count).tolist(),
        "depths": (generator.uniform(*BAND_DEPTH, count) * severity).tolist(),
    }


def _bands(parameters: Parameters) -> torchio.Transform:
    """Darkens stripes like saturation bands: multiplies by exp(−depth · Gaussian profile) for each."""

    def apply(tensor: torch.Tensor) -> torch.Tensor:
        height, width = tensor.shape[2:]
        rows, columns = np.mgrid[:height, :width] - (np.array([height, width]) - 1)[:, None, None] / 2
        field = np.zeros((height, width))
        for angle, position, std, depth in zip(*(parameters[name] for name in BAND_KEYS), strict=True):
            across = (np.cos(angle) * rows + np.sin(angle) * columns) / min(height, width)
            field += depth * np.exp(-(((across - position) / std) ** 2) / 2)
        return tensor * torch.from_numpy(np.exp(-field).astype(np.float32))

    return torchio.Lambda(apply)


PUBLISHED = {
    "RandBias": Artefact(_sample_bias, lambda given: torchio.BiasField(**given)),
    "RandGhost": Artefact(_sample_ghost, lambda given: torchio.Ghosting(**given)),
    "RandMotion": Artefact(_sample_motion, _motion),
    "RandSpike": Artefact(_sample_spike, _spike),
}
CHOICE = {
    "RandNoise": Artefact(_sample_noise, lambda given: torchio.Noise(**given)),
    "RandBlur": Artefact(_sample_blur, lambda given: torchio.Blur(**given)),
    "RandGamma": Artefact(_sample_gamma, lambda given: torchio.Gamma(**given)),
    "RandDownsample": Artefact(_sample_downsample, _downsample),
    "RandBands": Artefact(_sample_bands, _bands),
}
