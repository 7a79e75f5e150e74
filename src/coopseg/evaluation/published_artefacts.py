"""Draws and applies the four MR artefacts of the published test (Chen et al. 2021, section 3).

The models of the artefacts are TorchIO's (Pérez-García et al. 2021, version 1.x). The ranges are the paper's
settings: for RandMotion 30 degrees and 10 mm, otherwise TorchIO 1.2's defaults, spelled out because defaults
change between versions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torchio

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


def _sample_bias(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    count = (BIAS_ORDER + 1) * (BIAS_ORDER + 2) * (BIAS_ORDER + 3) // 6
    limit = BIAS_COEFFICIENT * severity
    return {"coefficients": generator.uniform(-limit, limit, count).tolist(), "order": BIAS_ORDER}


def _bias(parameters: dict[str, Any]) -> torchio.Transform:
    return torchio.BiasField(**parameters)


def _sample_ghost(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    return {
        "num_ghosts": int(generator.integers(GHOSTS[0], GHOSTS[1], endpoint=True)),
        "axis": int(generator.choice(GHOST_AXES)),
        "intensity": float(generator.uniform(*GHOST_INTENSITY)) * severity,
        "restore": None,  # only the central plane
    }


def _ghost(parameters: dict[str, Any]) -> torchio.Transform:
    return torchio.Ghosting(**parameters)


def _sample_motion(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    degrees, shifts = np.zeros((MOVEMENTS, 3)), np.zeros((MOVEMENTS, 3))
    # Axis 0 is the slice axis: rotate about it, shift along the other two.
    degrees[:, 0] = generator.uniform(-MOTION_DEGREES, MOTION_DEGREES, MOVEMENTS) * severity
    shifts[:, 1:] = generator.uniform(-MOTION_TRANSLATION, MOTION_TRANSLATION, (MOVEMENTS, 2)) * severity
    step = 1 / (MOVEMENTS + 1)
    times = step * np.arange(1, MOVEMENTS + 1)
    times += generator.uniform(-step * MOTION_JITTER, step * MOTION_JITTER, MOVEMENTS)
    return {"degrees": degrees.tolist(), "translation": shifts.tolist(), "times": times.tolist()}


def _motion(parameters: dict[str, Any]) -> torchio.Transform:
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    return torchio.Motion(**arrays, image_interpolation="linear")


def _sample_spike(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    return {
        "spikes_positions": generator.uniform(size=(SPIKES, 3)).tolist(),
        "intensity": float(generator.uniform(*SPIKE_INTENSITY)) * severity,
    }


def _spike(parameters: dict[str, Any]) -> torchio.Transform:
    return torchio.Spike(np.asarray(parameters["spikes_positions"]), parameters["intensity"])


# kind: (draw the parameters, make the transform that applies them)
PUBLISHED = {
    "RandBias": (_sample_bias, _bias),
    "RandGhost": (_sample_ghost, _ghost),
    "RandMotion": (_sample_motion, _motion),
    "RandSpike": (_sample_spike, _spike),
}
