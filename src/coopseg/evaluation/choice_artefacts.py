"""Defines five artefacts to choose settings by: other families than those of the published test.

Noise, blur and gamma are TorchIO's (Pérez-García et al. 2021, version 1.x). The other two are this project's:
TorchIO has no dark bands, and its Resample rounds the coarse grid down, which leaves a black edge. The ranges
are this project's too, chosen by eye so that an image at severity 1 is clearly worse and still readable.
All five work within slices, because slices lie about 10 mm apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torchio
from torch.nn.functional import interpolate

NOISE_STD = (0.05, 0.15)  # as a fraction of the volume's range; Gaussian, not Rician
BLUR_STD = (1.5, 3.0)  # millimetres, along rows and along columns
LOG_GAMMA = (0.4, 0.8)  # natural logarithm of the exponent, with either sign
DOWNSAMPLING = (2.0, 4.0)  # pixels of the volume per pixel of the coarse grid, along rows and along columns
BANDS = (1, 2)  # whole numbers, both ends included
BAND_DEPTH = (0.7, 1.8)  # at the middle of a band the signal is exp(−depth) of what it was
BAND_WIDTH = (0.04, 0.1)  # standard deviation of the profile, as a fraction of the slice's shorter side
BAND_POSITION = (-0.2, 0.2)  # distance from the slice's middle, where the heart is, in the same unit
BAND_KEYS = ("angles", "positions", "widths", "depths")


def _sample_noise(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    std = float(generator.uniform(*NOISE_STD)) * severity
    return {"mean": 0.0, "std": std, "seed": int(generator.integers(2**31))}


def _noise(parameters: dict[str, Any]) -> torchio.Transform:
    return torchio.Noise(**parameters)


def _sample_blur(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    return {"std": [0.0, *(generator.uniform(*BLUR_STD, 2) * severity).tolist()]}


def _blur(parameters: dict[str, Any]) -> torchio.Transform:
    return torchio.Blur(**parameters)


def _sample_gamma(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    sign = float(generator.choice((-1, 1)))
    return {"gamma": float(np.exp(sign * generator.uniform(*LOG_GAMMA) * severity))}


def _gamma(parameters: dict[str, Any]) -> torchio.Transform:
    return torchio.Gamma(**parameters)


def _sample_downsample(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    return {"factors": (1 + (generator.uniform(*DOWNSAMPLING, 2) - 1) * severity).tolist()}


def _downsample(parameters: dict[str, Any]) -> torchio.Transform:
    """Resamples linearly onto a coarse grid with the same outer edges and back; nothing is shifted."""

    def apply(tensor: torch.Tensor) -> torch.Tensor:
        fine = tuple(tensor.shape[2:])
        coarse = [
            max(1, round(size / factor)) for size, factor in zip(fine, parameters["factors"], strict=True)
        ]
        return interpolate(interpolate(tensor, size=coarse, mode="bilinear"), size=fine, mode="bilinear")

    return torchio.Lambda(apply)


def _sample_bands(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    count = int(generator.integers(BANDS[0], BANDS[1], endpoint=True))
    return {
        "angles": generator.uniform(0, np.pi, count).tolist(),  # of the direction across the band
        "positions": generator.uniform(*BAND_POSITION, count).tolist(),
        "widths": generator.uniform(*BAND_WIDTH, count).tolist(),
        "depths": (generator.uniform(*BAND_DEPTH, count) * severity).tolist(),
    }


def _bands(parameters: dict[str, Any]) -> torchio.Transform:
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


# kind: (draw the parameters, make the transform that applies them)
CHOICE = {
    "RandNoise": (_sample_noise, _noise),
    "RandBlur": (_sample_blur, _blur),
    "RandGamma": (_sample_gamma, _gamma),
    "RandDownsample": (_sample_downsample, _downsample),
    "RandBands": (_sample_bands, _bands),
}
