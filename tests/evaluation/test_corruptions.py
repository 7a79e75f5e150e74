"""Artefacts of both sets: replay, severity, and anatomy that stays in step with its label."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from drawn_artefacts import SPACING, draw, rescaled

from coopseg.errors import CoopsegError
from coopseg.evaluation.corruptions import (
    ALL_KINDS,
    CHOICE_KINDS,
    KINDS,
    Corruption,
    apply_corruption,
    corruption_generator,
    find_kinds,
    sample_corruption,
)


def test_kinds_by_set_and_by_name() -> None:
    assert find_kinds("test") == KINDS == ("RandBias", "RandGhost", "RandMotion", "RandSpike")
    assert find_kinds("choice") == CHOICE_KINDS
    assert not set(KINDS) & set(CHOICE_KINDS)
    assert (
        find_kinds("RandBlur, RandBias") == find_kinds(["RandBlur", "RandBias"]) == ("RandBlur", "RandBias")
    )
    with pytest.raises(
        CoopsegError, match=r"unknown corruption 'all'; choose from test, choice, RandBias, .*Ban"
    ):
        find_kinds("all")
    with pytest.raises(CoopsegError, match="found RandBlur, RandBlur; name one or more, each once"):
        find_kinds("RandBlur,RandBlur")
    with pytest.raises(CoopsegError, match="found none"):
        find_kinds([])


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_replayed_from_json_alone(kind: str, volume: np.ndarray) -> None:
    corruption = draw(kind)
    again = Corruption(kind, json.loads(json.dumps(corruption.parameters)))
    torch.manual_seed(1)
    first = apply_corruption(volume, corruption, spacing=SPACING)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(apply_corruption(volume, again, spacing=SPACING), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.dtype, first.shape) == (np.dtype(np.float32), volume.shape)
    assert (first.min(), first.max()) == (0, 1)
    assert np.abs(first - volume).mean() > 0.01


def test_seeds_depend_on_every_name_and_on_nothing_else() -> None:
    numbers = {
        corruption_generator(seed, case=case, kind=kind, copy=copy).uniform()
        for seed in (0, 1)
        for case in ("a", "b")
        for kind in ALL_KINDS
        for copy in (1, 2)
    }
    assert len(numbers) == 8 * len(ALL_KINDS)
    golden = corruption_generator(0, case="patient007_ED", kind="RandBias", copy=1).integers(2**62)
    assert golden == 2455199080025866126


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_severity_nought_changes_nothing(kind: str, volume: np.ndarray) -> None:
    found = apply_corruption(volume, draw(kind, severity=0), spacing=SPACING)
    np.testing.assert_allclose(found, rescaled(volume), atol=2e-6)


@pytest.mark.parametrize("kind", ["RandMotion", *CHOICE_KINDS])
def test_slices_do_not_leak_into_each_other(kind: str, volume: np.ndarray) -> None:
    """Another slice in the middle changes the others by the common rescaling at most."""
    other = volume.copy()
    other[2] = np.random.default_rng(1).uniform(0, 1, other[2].shape)
    first, second = (apply_corruption(each, draw(kind), spacing=SPACING) for each in (volume, other))
    for index in (0, 1, 3, 4):
        assert np.corrcoef(first[index].ravel(), second[index].ravel())[0, 1] > 0.999999
    assert np.corrcoef(first[2].ravel(), second[2].ravel())[0, 1] < 0.9


@pytest.mark.parametrize("kind", ["RandBias", "RandMotion", "RandGhost", *CHOICE_KINDS])
def test_the_ring_stays_under_its_label(kind: str, volume: np.ndarray) -> None:
    """Of all shifts of the clean volume by up to three pixels, none at all fits the corrupted one best."""
    for copy in (1, 2, 3):
        dirty = apply_corruption(volume, draw(kind, copy), spacing=SPACING)
        fits = {
            (down, right): np.corrcoef(np.roll(volume, (down, right), (1, 2)).ravel(), dirty.ravel())[0, 1]
            for down in range(-3, 4)
            for right in range(-3, 4)
        }
        assert max(fits, key=lambda shift: fits[shift]) == (0, 0)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("level", [0.0, 0.4])
def test_blank_volumes_give_no_nan(kind: str, level: float) -> None:
    found = apply_corruption(np.full((3, 32, 32), level, np.float32), draw(kind), spacing=SPACING)
    assert np.isfinite(found).all()
    if (level == 0 and kind != "RandNoise") or kind in (
        "RandMotion",
        "RandGhost",
        "RandBlur",
        "RandGamma",
        "RandDownsample",
    ):
        assert not found.any()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_one_slice(kind: str, volume: np.ndarray) -> None:
    found = apply_corruption(volume[:1], draw(kind), spacing=SPACING)
    assert found.shape == (1, 64, 48)
    assert found.std() > 0.05


def test_refuses() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(CoopsegError, match="unknown corruption 'RandSwap'; choose from RandBias"):
        sample_corruption("RandSwap", generator)
    with pytest.raises(CoopsegError, match="unknown corruption 'RandSwap'"):
        apply_corruption(np.zeros((2, 4, 4)), Corruption("RandSwap", {}), spacing=SPACING)
    with pytest.raises(CoopsegError, match="severity must be 0 or more"):
        sample_corruption("RandBias", generator, severity=-1)
    for bad in (np.zeros((4, 4)), np.full((1, 4, 4), np.nan)):
        with pytest.raises(CoopsegError, match=r"must be \(slices, H, W\) and finite"):
            apply_corruption(bad, draw("RandBias"), spacing=SPACING)
