"""Strong augmentation against scipy, by its stated distributions, and in a step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from pydantic import ValidationError
from torch import Tensor

from coopseg.config.rivals import BigAugSettings
from coopseg.networks.cooperative import Networks
from coopseg.rivals.bigaug import BigAug, Draws, alter
from coopseg.training.augmentation import displacement
from coopseg.training.passes import Codes, Truth
from coopseg.training.rival import Batch, Example


def draw(image: Tensor, seed: int = 0, **settings: Any) -> Draws:
    return BigAug(BigAugSettings(**settings)).sample(image, None, torch.Generator().manual_seed(seed))


def smooth(batch: int = 6, size: tuple[int, int] = (32, 48), channels: int = 1) -> Tensor:
    """Pictures that fill [0, 1]."""
    noise = np.random.default_rng(0).random((batch, channels, *size))
    found = torch.from_numpy(ndi.gaussian_filter(noise, (0, 0, 2, 2)))
    low, high = found.amin((1, 2, 3), keepdim=True), found.amax((1, 2, 3), keepdim=True)
    return (found - low) / (high - low)


def blobs(batch: int = 6, size: tuple[int, int] = (32, 48)) -> Tensor:
    noise = ndi.gaussian_filter(np.random.default_rng(1).random((batch, *size)), (0, 4, 4))
    return torch.from_numpy(np.digitize(noise, np.quantile(noise, [0.5, 0.8])))


def example(image: Tensor, label: Tensor, drawn: Draws) -> Example:
    nothing = torch.empty(0)
    codes = Codes(nothing, {}, nothing, (), {}, nothing)
    batch = Batch(Truth(image, label), codes, joint=True)
    return BigAug(BigAugSettings()).apply(batch, drawn, Networks(classes=3, width=1))


def slow_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Cut off at the border: what lies beyond has no weight."""
    if sigma == 0:
        return image
    once, weight = (
        ndi.gaussian_filter(given, sigma, mode="constant", truncate=12)
        for given in (image, np.ones_like(image))
    )
    return once / weight


def slow_alter(image: np.ndarray, noise: np.ndarray, values: dict[str, float]) -> np.ndarray:
    """One channel of one slice."""
    if values["sharpen"]:
        smoothed = slow_blur(image, 1.0)
        image = smoothed + values["sharpen"] * (smoothed - slow_blur(smoothed, 0.5))
    image = np.clip(slow_blur(image, values["blur"]) + noise + values["brightness"], 0, 1)
    return np.clip(image ** values["gamma"] * values["factor"] + values["shift"], 0, 1)


def test_intensities_change_as_scipy_says() -> None:
    image = smooth(channels=2)
    drawn = draw(image)
    found = alter(image, drawn)
    for b in range(len(image)):
        names = ("sharpen", "blur", "brightness", "gamma", "factor", "shift")
        values = {name: float(getattr(drawn, name)[b]) for name in names}
        for c in range(2):
            expected = slow_alter(image[b, c].numpy(), drawn.noise[b, c].numpy(), values)
            np.testing.assert_allclose(found[b, c], expected, atol=1e-9)


def test_what_is_held_against_it_is_the_clean_slice() -> None:
    """Whatever happens to the intensities, the target depends on the map alone, and so does the label."""
    image, label = smooth(), blobs()
    first, second = draw(image, p=1), draw(image, seed=1, p=1)
    mixed = Draws(**{**vars(second), "map": first.map})
    one, other = (example(image, label, drawn) for drawn in (first, mixed))
    assert not torch.allclose(one.inputs, other.inputs)
    assert torch.equal(one.truth.image, other.truth.image)
    assert torch.equal(one.truth.label, other.truth.label)
    assert not torch.equal(one.truth.label, label)
    assert torch.allclose(one.truth.image.amax((1, 2, 3)), torch.ones(6, dtype=torch.float64))


def test_with_no_operation_chosen_nothing_changes() -> None:
    image, label = smooth(), blobs()
    found = example(image, label, draw(image, p=0))
    torch.testing.assert_close(found.inputs, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.truth.image, image, atol=1e-5, rtol=0)
    assert torch.equal(found.truth.label, label)


def test_draws_are_distributed_as_stated() -> None:
    many = 4000
    drawn = draw(torch.zeros(many, 1, 16, 16))
    through_plane = (math.sqrt(4 * math.pi) * drawn.map.sigma).sqrt()
    noise = drawn.noise.std((1, 2, 3))
    ranges = {
        "sharpen": (drawn.sharpen, 0, 10, 30),
        "blur": (drawn.blur, 0, 0.25, 1.5),
        "brightness": (drawn.brightness, 0, -0.1, 0.1),
        "gamma": (drawn.gamma, 1, 0.5, 4.5),
        "factor": (drawn.factor, 1, 0.9, 1.1),
        "shift": (drawn.shift, 0, -0.1, 0.1),
        "angle": (drawn.map.angle, 0, -20, 20),
        "scale": (1 / drawn.map.zoom[:, 0], 1, 0.4, 1.6),
        "strength": (drawn.map.alpha * through_plane, 0, 0, 1000),
    }
    chosen = {name: values != otherwise for name, (values, otherwise, *_) in ranges.items()}
    for name, (values, _, low, high) in ranges.items():
        assert float(chosen[name].float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / many**0.5), name
        picked = (values[chosen[name]] - low) / (high - low)
        assert picked.min() > -1e-5, name
        assert picked.max() < 1 + 1e-5, name
        assert float(picked.mean()) == pytest.approx(0.5, abs=5 * (1 / 12 / 1900) ** 0.5), name
        assert float(picked.var()) == pytest.approx(1 / 12, rel=0.1), name
    assert float((noise > 0).float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / many**0.5)
    assert float(noise[noise > 0].mean()) == pytest.approx(0.055, rel=0.02)
    assert 0.008 < float(noise[noise > 0].min()) < 0.012
    assert 0.09 < float(noise.max()) < 0.12
    assert torch.equal(chosen.pop("shift"), chosen["factor"])  # one operation
    together = torch.stack([*chosen.values(), noise > 0]).float()
    correlation = torch.corrcoef(together) - torch.eye(9)
    assert correlation.abs().max() < 5 / many**0.5  # the nine are chosen each for itself
    assert (drawn.map.flip == 1).all()
    assert (drawn.map.shift == 0).all()


def test_a_deformation_moves_as_far_as_it_does_in_a_volume() -> None:
    strength, sigma = 500.0, 3.0
    settings = {"deformation": (sigma, sigma), "deformation_strength": (strength, strength)}
    drawn = draw(torch.zeros(8, 1, 96, 96), 0, p=1, **settings)
    found = displacement(drawn.map, (96, 96)).square().mean().sqrt()
    noise = np.random.default_rng(0).uniform(-1, 1, (64, 64, 64))
    volume = strength * ndi.gaussian_filter(noise, sigma, mode="wrap", truncate=6)
    assert float(found) == pytest.approx(np.sqrt(np.square(volume).mean()), rel=0.1)


def test_published_deformations_do_not_fold() -> None:
    """The area that a pixel comes from stays positive at nearly every pixel, at the largest strength."""
    drawn = draw(torch.zeros(16, 1, 128, 128), p=1, deformation_strength=(1000, 1000))
    field = displacement(drawn.map, (128, 128))
    dx = torch.gradient(field, dim=3)[0]
    dy = torch.gradient(field, dim=2)[0]
    area = (1 + dx[:, 0]) * (1 + dy[:, 1]) - dx[:, 1] * dy[:, 0]
    assert (area > 0).float().mean() > 0.999


def test_the_same_seed_makes_the_same_picture() -> None:
    image, label = smooth(), blobs()
    first, again, other = (example(image, label, draw(image, seed)) for seed in (4, 4, 5))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.truth.label, again.truth.label)
    assert not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize("settings", [{"scale": (0.0, 1.0)}, {"blur": (2.0, 1.0)}, {"gamma": (-1.0, 1.0)}])
def test_ranges_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must satisfy 0 <"):
        BigAugSettings(**settings)


def test_a_step_is_one_graph(steps: Any) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        made = example(image, label, drawn)
        low, high = made.inputs.amin((1, 2, 3), keepdim=True), made.inputs.amax((1, 2, 3), keepdim=True)
        image_code = networks.image_encoder((made.inputs - low) / (high - low))
        return steps.loss_of_code(networks, image_code, made.truth.image, made.truth.label)

    steps.check_against_one_graph("bigaug", further, records=True, learns=True)
