"""Heavy augmentation against numpy, by its stated distributions, and in a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from pydantic import ValidationError
from torch import Tensor

from coopseg.config.rivals import HeavySettings
from coopseg.networks.cooperative import Networks
from coopseg.rivals.heavy import Draws, Heavy, alter
from coopseg.rivals.operations import low_resolution, spot_map
from coopseg.training.augmentation import displacement
from coopseg.training.passes import Codes, Truth
from coopseg.training.rival import Batch, Example

MANY = 8000
OPERATIONS = [name for name in HeavySettings.model_fields if name.startswith("p_")]
GEOMETRY = {"p_rotation", "p_scale", "p_elastic", "p_mirror", "p_quarter_turn"}


def only(*names: str) -> dict[str, Any]:
    """Probabilities of 1 for these operations and of 0 for all others."""
    return {name: float(name in names) for name in OPERATIONS}


def draw(image: Tensor, seed: int = 0, **settings: Any) -> Draws:
    return Heavy(HeavySettings(**settings)).sample(image, None, torch.Generator().manual_seed(seed))


def smooth(batch: int = 6, size: tuple[int, int] = (32, 48)) -> Tensor:
    """Pictures that fill [0, 1]."""
    found = torch.from_numpy(
        ndi.gaussian_filter(np.random.default_rng(0).random((batch, 1, *size)), (0, 0, 2, 2))
    )
    return scaled(found)


def scaled(image: Tensor) -> Tensor:
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low)


def blobs(batch: int = 6, size: tuple[int, int] = (32, 48)) -> Tensor:
    noise = ndi.gaussian_filter(np.random.default_rng(1).random((batch, *size)), (0, 4, 4))
    return torch.from_numpy(np.digitize(noise, np.quantile(noise, [0.5, 0.8])))


def example(image: Tensor, label: Tensor, drawn: Draws) -> Example:
    nothing = torch.empty(0)
    codes = Codes(nothing, {}, nothing, (), {}, nothing)
    batch = Batch(Truth(image, label), codes, joint=True)
    return Heavy(HeavySettings()).apply(batch, drawn, Networks(classes=3, width=1))


def slow_alter(image: np.ndarray, drawn: Draws, b: int) -> np.ndarray:
    """One slice (H, W), one operation after the other."""

    def full(x: np.ndarray) -> np.ndarray:
        return (x - x.min()) / (x.max() - x.min())

    def at(values: Tensor) -> float:
        return float(values[b])

    x = image
    for number, size in drawn.median:
        x = full(ndi.median_filter(x, int(size), mode="nearest")) if number == b else x
    if at(drawn.blur):
        weight = ndi.gaussian_filter(np.ones_like(x), at(drawn.blur), mode="constant", truncate=12)
        x = full(ndi.gaussian_filter(x, at(drawn.blur), mode="constant", truncate=12) / weight)
    x = full(x + drawn.noise[b, 0].numpy() * x.std(ddof=1))
    x = full(np.clip(x + at(drawn.brightness) * x.std(ddof=1), 0, 1))
    x = full(np.clip((x - x.mean()) * at(drawn.contrast) + x.mean(), 0, 1))
    for number, zoom in drawn.low_resolution:
        x = low_resolution(torch.from_numpy(x)[None, None], ((0, zoom),))[0, 0].numpy() if number == b else x
    x = full(x) ** at(drawn.gamma)
    x = 1 - (1 - x) ** at(drawn.inverted_gamma)
    for start, length, present in zip(
        drawn.blanks.start[b].tolist(), drawn.blanks.length[b].tolist(), drawn.blanks.present[b], strict=True
    ):
        window = tuple(slice(s, s + n) for s, n in zip(start, length, strict=True))
        x[window] = x[window].mean() if present else x[window]
    x = full(x)
    bright, local = (
        spot_map(spot, torch.Size(x.shape))[b, 0].numpy() for spot in (drawn.shade, drawn.local_gamma)
    )
    x = full(x + at(drawn.shade.strength) * x.std(ddof=1) * bright)
    x = full(x + local * (x ** at(drawn.local_gamma.strength) - x))
    return np.clip(x - at(drawn.sharpen) * ndi.laplace(x, mode="nearest"), 0, 1)


def test_intensities_change_in_the_stated_order() -> None:
    image = smooth(12)
    drawn = draw(image, 0, **{name: 0.7 for name in OPERATIONS})
    found = alter(image, drawn)
    assert drawn.median
    assert drawn.low_resolution
    for b in range(len(image)):
        np.testing.assert_allclose(found[b, 0], slow_alter(image[b, 0].numpy(), drawn, b), atol=1e-8)


def test_with_no_operation_chosen_nothing_changes() -> None:
    image, label = smooth(), blobs()
    found = example(image, label, draw(image, **only()))
    torch.testing.assert_close(found.inputs, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.truth.image, image, atol=1e-5, rtol=0)
    assert torch.equal(found.truth.label, label)


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_operation_changes_the_image_and_geometry_the_target_too(name: str) -> None:
    image, label = smooth(), blobs()
    found = example(image, label, draw(image, **only(name)))
    # all of them, but a lower contrast is nothing once a slice is scaled
    changed = (scaled(found.inputs) - image).abs().amax((1, 2, 3)) > 1e-3
    assert changed.any() if name == "p_contrast" else changed.all()
    moves = name in GEOMETRY
    assert torch.equal(found.truth.label, label) != moves
    assert torch.allclose(found.truth.image, image, atol=1e-5) != moves
    if moves:
        torch.testing.assert_close(scaled(found.inputs), found.truth.image, atol=1e-6, rtol=0)


def test_what_is_held_against_it_is_the_clean_slice() -> None:
    """Whatever happens to the intensities, the target depends on the map alone, and so does the label."""
    image, label = smooth(), blobs()
    first, second = (draw(image, seed, **only(*OPERATIONS)) for seed in (0, 1))
    one, other = (example(image, label, drawn) for drawn in (first, replace(second, map=first.map)))
    assert not torch.allclose(one.inputs, other.inputs)
    assert torch.equal(one.truth.image, other.truth.image)
    assert torch.equal(one.truth.label, other.truth.label)
    assert torch.allclose(one.truth.image.amax((1, 2, 3)), torch.ones(6, dtype=torch.float64))


def numbered(some: tuple[tuple[int, float], ...]) -> Tensor:
    """(MANY,): what was drawn for an image, 0 for nothing."""
    found = torch.zeros(MANY)
    for number, value in some:
        found[number] = value
    return found


def test_draws_are_distributed_as_stated() -> None:
    drawn = draw(torch.zeros(MANY, 1, 16, 16))
    ranges = {  # values, of nothing chosen, probability, lowest, highest
        "median": (numbered(drawn.median), 0, 0.05, 2, 7),
        "blur": (drawn.blur, 0, 0.05, 0.3, 1.5),
        "noise": (drawn.noise.std((1, 2, 3)), 0, 0.1, 0, 0.12),
        "contrast": (drawn.contrast, 1, 0.1, 0.5, 2),
        "low resolution": (numbered(drawn.low_resolution), 0, 0.075, 0.25, 1),
        "gamma": (drawn.gamma, 1, 0.1, 0.7, 1.5),
        "inverted gamma": (drawn.inverted_gamma, 1, 0.1, 0.7, 1.5),
        "blanks": (drawn.blanks.present.sum(1).float(), 0, 0.2, 1, 5),
        "shade": (drawn.shade.strength, 0, 0.15, -5, 5),
        "local gamma": (drawn.local_gamma.strength, 1, 0.15, 0.01, 4),
        "sharpen": (drawn.sharpen, 0, 0.1, 0.1, 1),
        "scale": (drawn.map.zoom[:, 0], 1, 0.2, 0.7, 1.43),
        "elastic": (drawn.map.alpha, 0, 0.2, 0, 200),
        "mirror": (drawn.map.flip[:, 1], 1, 0.5, -1, -1),
        "brightness": (drawn.brightness, 0, 0.05, -3, 3),
    }
    chosen = {}
    for name, (values, otherwise, p, low, high) in ranges.items():
        chosen[name] = (values != otherwise).float()
        picked = values[values != otherwise]
        assert float(chosen[name].mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / MANY) ** 0.5), name
        assert picked.min() > low - 1e-5, name
        assert picked.max() < high + 1e-5, name
    correlation = torch.corrcoef(torch.stack(list(chosen.values()))) - torch.eye(len(chosen))
    assert correlation.abs().max() < 5 / MANY**0.5  # each is chosen for itself


def test_either_side_of_one_is_as_likely_and_brightness_is_normal() -> None:
    drawn = draw(torch.zeros(MANY, 1, 16, 16), **only(*OPERATIONS))
    for values in (drawn.contrast, drawn.gamma, drawn.inverted_gamma, *drawn.map.zoom.unbind(1)):
        assert float((values < 1).float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / MANY**0.5)
    for values, low in ((drawn.shade.strength, 0), (drawn.local_gamma.strength, 1)):
        assert float((values < low).float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / MANY**0.5)
    assert drawn.shade.strength.abs().min() >= 1
    between = (drawn.local_gamma.strength > 0.8) & (drawn.local_gamma.strength < 1.5)
    assert not between.any()
    assert float(drawn.brightness.mean()) == pytest.approx(0, abs=5 * 0.5 / MANY**0.5)
    assert float(drawn.brightness.std()) == pytest.approx(0.5, rel=0.05)
    assert (drawn.map.flip == -1).all()
    assert (drawn.map.shift == 0).all()
    assert not torch.equal(*drawn.map.zoom.unbind(1))  # each axis for itself


def test_rotations_and_quarter_turns() -> None:
    image = torch.zeros(MANY, 1, 16, 16)
    turns = draw(image, **only("p_rotation")).map.angle
    assert turns.abs().max() <= 180
    assert float(turns.mean()) == pytest.approx(0, abs=5 * 104 / MANY**0.5)
    assert float(turns.std()) == pytest.approx(180 / 3**0.5, rel=0.05)
    quarters = draw(image, **{**only(), "p_quarter_turn": 0.375}).map.angle
    assert set(quarters.tolist()) == {0.0, 90.0}
    assert float((quarters == 90).float().mean()) == pytest.approx(0.375, abs=5 * 0.484 / MANY**0.5)


def test_a_deformation_is_as_wide_as_its_noise_smoothed_in_the_plane() -> None:
    settings = {"elastic": (4.0, 4.0), "elastic_strength": (200.0, 200.0), **only("p_elastic")}
    found = displacement(draw(torch.zeros(16, 1, 96, 96), **settings).map, (96, 96)).square().mean().sqrt()
    noise = np.random.default_rng(0).uniform(-1, 1, (512, 512))
    expected = 200 * ndi.gaussian_filter(noise, 4, mode="wrap").std()
    assert float(found) == pytest.approx(expected, rel=0.1)


def test_the_same_seed_makes_the_same_picture() -> None:
    image, label = smooth(), blobs()
    first, again, other = (example(image, label, draw(image, seed)) for seed in (4, 4, 5))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.truth.label, again.truth.label)
    assert not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.0, 1.0)}, "must satisfy 0 <"),
        ({"blur": (2.0, 1.0)}, "must satisfy 0 <="),
        ({"gamma": (1.2, 1.5)}, "must have 1 in its range"),
        ({"blank": (0.1, 1.2)}, "at most 1"),
    ],
)
def test_ranges_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HeavySettings(**settings)


def test_the_step_adds_its_hard_pass(steps: Any) -> None:
    """The rest is as in every pass: against the warped image and label."""

    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        made = example(image, label, drawn)
        code = networks.image_encoder(scaled(made.inputs))
        return steps.loss_of_code(networks, code, made.truth.image, made.truth.label)

    steps.check_against_one_graph("heavy", further, records=True, learns=True)
