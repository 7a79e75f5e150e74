"""Four MR artefacts that test robustness (Chen et al. 2021, section 3): sampled first, then applied.

The models of the artefacts are TorchIO's (Pérez-García et al. 2021, version 1.x). Its random transforms are
not used: here every severity is drawn from a given generator into a `Corruption`, which can be written down
and replayed. The ranges below are the paper's settings: for RandMotion 30 degrees and 10 mm, otherwise
TorchIO 1.2's defaults, spelled out because defaults change between versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchio

from coopseg.errors import CoopsegError

KINDS = ("RandBias", "RandGhost", "RandMotion", "RandSpike")

BIAS_ORDER = 3  # of the polynomial in three coordinates: 20 coefficients
BIAS_COEFFICIENT = 0.5  # each from U(−0.5, 0.5); the field is the exponential of the polynomial
GHOSTS = (4, 10)  # whole numbers, both ends included
GHOST_INTENSITY = (0.5, 1.0)  # 1 removes every n-th plane of k-space
GHOST_AXES = (1, 2)  # rows and columns; along the slice axis there is no k-space in a multi-slice scan
MOTION_DEGREES = 30.0  # from U(−30, 30)
MOTION_TRANSLATION = 10.0  # millimetres, from U(−10, 10)
MOVEMENTS = 2  # positions beside the first one
MOTION_JITTER = 0.3  # of the interval between movements
SPIKES = 1
SPIKE_INTENSITY = (1.0, 3.0)  # of the maximum of k-space


@dataclass(frozen=True)
class Corruption:
    """One artefact with every severity fixed. `parameters` holds JSON types only."""

    kind: str
    parameters: dict[str, Any]


def corruption_generator(seed: int, *, case: str, kind: str, copy: int) -> np.random.Generator:
    """The generator of one corrupted volume, from names alone: order and number of workers do not matter."""
    key = "\0".join((str(seed), case, kind, str(copy)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))


def sample_corruption(kind: str, generator: np.random.Generator, *, severity: float = 1.0) -> Corruption:
    """Draw the parameters of an artefact.

    kind: one of KINDS. severity: factor on angles, shifts, intensities and coefficients; 1 is the paper's
    test, 0 leaves the volume as it is.
    Raises CoopsegError for an unknown kind or a negative severity.
    """
    if kind not in _SAMPLERS:
        raise CoopsegError(f"unknown corruption {kind!r}; choose from {', '.join(KINDS)}")
    if not severity >= 0:
        raise CoopsegError(f"severity must be 0 or more, found {severity}")
    return Corruption(kind, _SAMPLERS[kind](generator, severity))


def _sample_bias(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    count = (BIAS_ORDER + 1) * (BIAS_ORDER + 2) * (BIAS_ORDER + 3) // 6
    limit = BIAS_COEFFICIENT * severity
    return {"coefficients": generator.uniform(-limit, limit, count).tolist(), "order": BIAS_ORDER}


def _sample_ghost(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    return {
        "num_ghosts": int(generator.integers(GHOSTS[0], GHOSTS[1], endpoint=True)),
        "axis": int(generator.choice(GHOST_AXES)),
        "intensity": float(generator.uniform(*GHOST_INTENSITY)) * severity,
        "restore": None,  # only the central plane
    }


def _sample_motion(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    degrees, shifts = np.zeros((MOVEMENTS, 3)), np.zeros((MOVEMENTS, 3))
    # Axis 0 is the slice axis: rotate about it, shift along the other two.
    degrees[:, 0] = generator.uniform(-MOTION_DEGREES, MOTION_DEGREES, MOVEMENTS) * severity
    shifts[:, 1:] = generator.uniform(-MOTION_TRANSLATION, MOTION_TRANSLATION, (MOVEMENTS, 2)) * severity
    step = 1 / (MOVEMENTS + 1)
    times = step * np.arange(1, MOVEMENTS + 1)
    times += generator.uniform(-step * MOTION_JITTER, step * MOTION_JITTER, MOVEMENTS)
    return {"degrees": degrees.tolist(), "translation": shifts.tolist(), "times": times.tolist()}


def _sample_spike(generator: np.random.Generator, severity: float) -> dict[str, Any]:
    return {
        "spikes_positions": generator.uniform(size=(SPIKES, 3)).tolist(),
        "intensity": float(generator.uniform(*SPIKE_INTENSITY)) * severity,
    }


_SAMPLERS = {
    "RandBias": _sample_bias,
    "RandGhost": _sample_ghost,
    "RandMotion": _sample_motion,
    "RandSpike": _sample_spike,
}


def apply_corruption(
    volume: np.ndarray, corruption: Corruption, *, spacing: Sequence[float] | np.ndarray
) -> np.ndarray:
    """The volume with the artefact, rescaled to [0, 1].

    volume: (slices, H, W) float in [0, 1]. spacing: (3,) millimetres between slices, rows and columns.
    Returns (slices, H, W) float32; a volume that is constant after the artefact comes out as zeros.
    Anatomy stays where it was, so the label of the volume stays right: in RandMotion the centre of k-space
    is taken at the first position. Raises CoopsegError for a volume that is not 3-D or not finite.
    """
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise CoopsegError(
            f"a volume to corrupt must be (slices, H, W) and finite, found shape {volume.shape}"
        )
    image = torchio.ScalarImage(
        tensor=torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None],
        affine=_centred_affine(volume.shape, spacing),
    )
    with torch.random.fork_rng(devices=[]):  # TorchIO draws a number even where nothing is random
        corrupted = _transform(corruption)(image)
    return _rescale(corrupted.data[0].numpy())


def _transform(corruption: Corruption) -> torchio.Transform:
    parameters = corruption.parameters
    match corruption.kind:
        case "RandBias":
            return torchio.BiasField(**parameters)
        case "RandGhost":
            return torchio.Ghosting(**parameters)
        case "RandMotion":
            arrays = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
            return torchio.Motion(**arrays, image_interpolation="linear")
        case "RandSpike":
            return torchio.Spike(np.asarray(parameters["spikes_positions"]), parameters["intensity"])
        case _:
            raise CoopsegError(f"unknown corruption {corruption.kind!r}; choose from {', '.join(KINDS)}")


def _centred_affine(shape: tuple[int, ...], spacing: Sequence[float] | np.ndarray) -> np.ndarray:
    """(4, 4): true spacing, stored axes along the world's, the volume's centre at the world's origin.

    An oblique affine would turn an in-plane angle into one out of plane, since TorchIO's angles are about
    the world's axes; and its Motion loses the centre of rotation and rotates about the world's origin.
    """
    affine = np.diag([*np.asarray(spacing, dtype=np.float64), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def _rescale(volume: np.ndarray) -> np.ndarray:
    low, high = float(volume.min()), float(volume.max())
    if high - low <= 1e-5:  # of an input in [0, 1]: what is left is rounding of the Fourier transform
        return np.zeros_like(volume, dtype=np.float32)
    return np.clip((volume - low) / (high - low), 0, 1).astype(np.float32)
