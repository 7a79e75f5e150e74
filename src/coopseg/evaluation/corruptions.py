"""Samples and then applies MR artefacts, which test robustness or help to choose settings.

TorchIO's random transforms are not used: every severity is drawn from a given generator into a `Corruption`,
which can be stored and replayed.

PUBLISHED has the four of the published test (Chen et al. 2021, section 3). Their models are TorchIO's
(Pérez-García et al. 2021, version 1.x). Their ranges are the paper's settings: for RandMotion 30 degrees and
10 mm, otherwise TorchIO 1.2's defaults, spelled out because defaults change between versions.

CHOICE has five of other families, to choose settings by. Noise, blur and gamma are TorchIO's. The other two
are this project's: TorchIO has no dark bands, and its Resample rounds the coarse grid down, which leaves a
black edge. The ranges are this project's too, chosen by eye so that an image at severity 1 is clearly worse
and still readable. All five work within slices, because slices lie about 10 mm apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchio
from torch.nn.functional import interpolate

from coopseg.errors import CoopsegError
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
    """Holds the two halves of an artefact: the draw, as (generator, severity), and the pure transform.

    strength: the parameters that a severity weakens. none: their value at severity 0.
    """

    sample: Callable[[np.random.Generator, float], Parameters]
    transform: Callable[[Parameters], torchio.Transform]
    strength: tuple[str, ...]
    none: float = 0.0


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
    "RandBias": Artefact(_sample_bias, lambda given: torchio.BiasField(**given), ("coefficients",)),
    "RandGhost": Artefact(_sample_ghost, lambda given: torchio.Ghosting(**given), ("intensity",)),
    "RandMotion": Artefact(_sample_motion, _motion, ("degrees", "translation")),
    "RandSpike": Artefact(_sample_spike, _spike, ("intensity",)),
}
CHOICE = {
    "RandNoise": Artefact(_sample_noise, lambda given: torchio.Noise(**given), ("mean", "std")),
    "RandBlur": Artefact(_sample_blur, lambda given: torchio.Blur(**given), ("std",)),
    "RandGamma": Artefact(_sample_gamma, lambda given: torchio.Gamma(**given), ("gamma",), none=1.0),
    "RandDownsample": Artefact(_sample_downsample, _downsample, ("factors",), none=1.0),
    "RandBands": Artefact(_sample_bands, _bands, ("depths",)),
}


KINDS = tuple(PUBLISHED)  # the published test: nothing is chosen by looking at these
CHOICE_KINDS = tuple(CHOICE)  # settings are chosen by these; no test column has them
ALL_KINDS = (*KINDS, *CHOICE_KINDS)
SETS = {"test": KINDS, "choice": CHOICE_KINDS}
_ARTEFACTS = {**PUBLISHED, **CHOICE}


@dataclass(frozen=True)
class Corruption:
    """Holds one artefact with every severity fixed. `parameters` has JSON types only."""

    kind: str
    parameters: Parameters

    @property
    def is_none(self) -> bool:
        """Tells whether it changes nothing, as at severity 0. Raises CoopsegError for an unknown kind."""
        if self.kind not in _ARTEFACTS:
            raise CoopsegError(_unknown(self.kind))
        artefact = _ARTEFACTS[self.kind]
        return all(np.all(np.asarray(self.parameters[key]) == artefact.none) for key in artefact.strength)


def find_kinds(kinds: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the kinds meant by "test" (KINDS), by "choice" (CHOICE_KINDS), or by names.

    kinds: a name of `SETS`, or kinds in a list or separated by commas.
    Raises CoopsegError for an unknown kind, one named twice, or none.
    """
    if isinstance(kinds, str):
        kinds = SETS.get(kinds) or [name.strip() for name in kinds.split(",")]
    for kind in kinds:
        if kind not in ALL_KINDS:
            raise CoopsegError(_unknown(kind, *SETS))
    if not kinds or len(set(kinds)) < len(kinds):
        raise CoopsegError(
            f"kinds of corruption: found {', '.join(kinds) or 'none'}; name one or more, each once"
        )
    return tuple(kinds)


def _unknown(kind: str, *others: str) -> str:
    return f"unknown corruption {kind!r}; choose from {', '.join((*others, *ALL_KINDS))}"


def corruption_generator(seed: int, *, case: str, kind: str, copy: int) -> np.random.Generator:
    """Returns a volume's generator, seeded by its arguments: order and number of workers do not matter."""
    key = "\0".join((str(seed), case, kind, str(copy)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))


def sample_corruption(kind: str, generator: np.random.Generator, *, severity: float = 1.0) -> Corruption:
    """Draws the parameters of an artefact.

    kind: one of ALL_KINDS. severity: factor on everything that makes an artefact strong (angles, shifts,
    standard deviations, depths, ...); 1 draws from the ranges above, for KINDS those of the paper;
    0 leaves the volume as it is.
    Raises CoopsegError for an unknown kind or a negative severity.
    """
    if kind not in _ARTEFACTS:
        raise CoopsegError(_unknown(kind))
    if not severity >= 0:
        raise CoopsegError(f"severity must be 0 or more, found {severity}")
    return Corruption(kind, _ARTEFACTS[kind].sample(generator, severity))


def apply_corruption(
    volume: np.ndarray,
    corruption: Corruption,
    *,
    spacing: Sequence[float] | np.ndarray,
    rescale: bool = True,
) -> np.ndarray:
    """Returns the volume with the artefact, rescaled to [0, 1]; at severity 0 the volume as it is.

    volume: (slices, H, W) float, all or most of it in [0, 1], or (channels, slices, H, W): all channels get
    the same artefact, since they were taken of one patient, and are rescaled each by itself. Noise is drawn
    for each, and a spike is as strong as its channel's k-space. spacing: (3,) millimetres between slices,
    rows and columns. rescale: false to leave the range as the artefact makes it.
    Returns float32 of the same shape; a volume that is constant after the artefact is rescaled to zeros.
    Anatomy stays where it was, so the label of the volume stays right: RandMotion takes the centre of k-space
    from the first position. Raises CoopsegError for a volume of another shape or one that is not finite, and
    for an unknown kind.
    """
    if volume.ndim not in (3, 4) or not np.isfinite(volume).all():
        raise CoopsegError(
            "a volume to corrupt must be (slices, H, W) or (channels, slices, H, W) and finite, found shape "
            f"{volume.shape}"
        )
    if corruption.is_none:
        return volume.astype(np.float32)
    transform = _ARTEFACTS[corruption.kind].transform
    channels = np.ascontiguousarray(volume.reshape(-1, *volume.shape[-3:]), dtype=np.float32)
    image = torchio.ScalarImage(
        tensor=torch.from_numpy(channels), affine=_centred_affine(volume.shape[-3:], spacing)
    )
    with torch.random.fork_rng(devices=[]):  # TorchIO draws a number even where nothing is random
        corrupted = transform(corruption.parameters)(image)
    found = corrupted.data.numpy().astype(np.float32, copy=False)
    return (np.stack([*map(_rescale, found)]) if rescale else found).reshape(volume.shape)


def _centred_affine(shape: tuple[int, ...], spacing: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns (4, 4): true spacing, stored axes along the world's, the volume's centre at the world's origin.

    TorchIO rotates about the world's axes, so an oblique affine would turn an in-plane angle out of the
    plane. Its Motion loses the centre of rotation and rotates about the world's origin.
    """
    affine = np.diag([*np.asarray(spacing, dtype=np.float64), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def _rescale(volume: np.ndarray) -> np.ndarray:
    low, high = float(volume.min()), float(volume.max())
    if high - low <= 1e-5:  # for an input in [0, 1] this is rounding of the Fourier transform
        return np.zeros_like(volume, dtype=np.float32)
    return np.clip((volume - low) / (high - low), 0, 1).astype(np.float32)
