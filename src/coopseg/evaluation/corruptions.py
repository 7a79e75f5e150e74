"""Samples and then applies MR artefacts, which test robustness or help to choose settings.

TorchIO's random transforms are not used: every severity is drawn from a given generator into a `Corruption`,
which can be stored and replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchio

from coopseg.errors import CoopsegError
from coopseg.evaluation.artefacts import CHOICE, PUBLISHED, Parameters

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
    standard deviations, depths, ...); 1 draws from the ranges in `artefacts`, for KINDS those of the paper;
    0 leaves the volume as it is.
    Raises CoopsegError for an unknown kind or a negative severity.
    """
    if kind not in _ARTEFACTS:
        raise CoopsegError(_unknown(kind))
    if not severity >= 0:
        raise CoopsegError(f"severity must be 0 or more, found {severity}")
    return Corruption(kind, _ARTEFACTS[kind].sample(generator, severity))


def apply_corruption(
    volume: np.ndarray, corruption: Corruption, *, spacing: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Returns the volume with the artefact, rescaled to [0, 1].

    volume: (slices, H, W) float in [0, 1]. spacing: (3,) millimetres between slices, rows and columns.
    Returns (slices, H, W) float32; a volume that is constant after the artefact comes out as zeros.
    Anatomy stays where it was, so the label of the volume stays right: RandMotion takes the centre of k-space
    from the first position. Raises CoopsegError for a volume that is not 3-D or not finite, and for an
    unknown kind.
    """
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise CoopsegError(
            f"a volume to corrupt must be (slices, H, W) and finite, found shape {volume.shape}"
        )
    if corruption.kind not in _ARTEFACTS:
        raise CoopsegError(_unknown(corruption.kind))
    transform = _ARTEFACTS[corruption.kind].transform
    image = torchio.ScalarImage(
        tensor=torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None],
        affine=_centred_affine(volume.shape, spacing),
    )
    with torch.random.fork_rng(devices=[]):  # TorchIO draws a number even where nothing is random
        corrupted = transform(corruption.parameters)(image)
    return _rescale(corrupted.data[0].numpy())


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
