"""Planar waves and mixed images against their formulas, by their stated distributions, and in a step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.rivals import AfaSettings
from coopseg.networks.cooperative import Networks
from coopseg.rivals.afa_mixup import AfaMixup, Draws, Waves, waves
from coopseg.training.passes import Truth
from coopseg.training.rival import Batch, Example


def draw(image: Tensor, seed: int = 0, **settings: Any) -> Draws:
    return AfaMixup(AfaSettings(**settings)).sample(image, None, torch.Generator().manual_seed(seed))


def pictures(batch: int = 4, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Images (B, C, 12, 16) and labels of three classes."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(batch, channels, 12, 16, generator=generator, dtype=torch.float64)
    return image, torch.randint(3, (batch, 12, 16), generator=generator)


def example(image: Tensor, label: Tensor, drawn: Draws) -> Example:
    batch = Batch(Truth(image, label), None, joint=False)  # type: ignore[arg-type]
    return AfaMixup(AfaSettings()).apply(batch, drawn, Networks(classes=3))


def slow_wave(drawn: Draws, n: int, channel: int, size: tuple[int, int]) -> np.ndarray:
    """Pixel by pixel."""
    frequency, direction, phase, strength = (
        float(values[n, channel])
        for values in (drawn.frequency, drawn.direction, drawn.phase, drawn.strength)
    )
    wave = np.empty(size)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = row - (size[0] - 1) / 2, column - (size[1] - 1) / 2
            along = x * math.cos(direction) + y * math.sin(direction)
            wave[row, column] = math.sin(2 * math.pi * frequency * along - phase)
    return strength * max(size) / 32 * wave / np.linalg.norm(wave)


def test_an_image_is_mixed_with_the_one_before_it_and_a_wave_is_added() -> None:
    image, label = pictures(channels=2)
    drawn = draw(image)
    found = example(image, label, drawn)
    share = float(drawn.share)
    for n in range(4):
        mixed = share * image[n] + (1 - share) * image[n - 1]
        added = np.stack([slow_wave(drawn, n, channel, (12, 16)) for channel in range(2)])
        np.testing.assert_allclose(found.inputs[n], mixed.numpy() + added, rtol=1e-9, atol=1e-12)
        low, high = mixed.amin((1, 2), keepdim=True), mixed.amax((1, 2), keepdim=True)
        target = (mixed - low) / (high - low)
        torch.testing.assert_close(found.truth.image[n], target)
        for c in range(3):
            shares = share * (label[n] == c).double() + (1 - share) * (label[n - 1] == c).double()
            torch.testing.assert_close(found.truth.label[n, c], shares)


def test_a_wave_is_one_pair_of_points_in_k_space() -> None:
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    wave = waves(Waves(one * 5 / 32, one * math.pi / 2, one * 0.3, one * 5), (32, 32))[0, 0]
    strength = torch.fft.fft2(wave).abs()
    assert {tuple(point) for point in (strength > 1e-9).nonzero().tolist()} == {(5, 0), (27, 0)}


def test_the_stated_amplitude() -> None:
    """5 √2 / 32 at strength 5, whatever the frequency, in a square image."""
    image = torch.zeros(200, 1, 64, 64, dtype=torch.float64)
    drawn = draw(image)
    amplitude = waves(drawn, (64, 64)).amax((2, 3)) / drawn.strength[..., 0, 0]
    several = (drawn.frequency > 0.05) & (drawn.frequency < 0.95)  # periods
    found = amplitude[several[..., 0, 0]] * 5
    assert float(found.median()) == pytest.approx(0.22, abs=0.01)


def test_draws_are_distributed_as_stated() -> None:
    image = torch.zeros(3000, 2, 4, 4)
    drawn = draw(image)
    uniform = {"frequency": 1.0, "direction": math.pi, "phase": math.pi}
    for name, most in uniform.items():
        values = getattr(drawn, name).flatten() / most
        assert scipy.stats.kstest(values, "uniform").pvalue > 1e-4, name
    assert drawn.frequency.min() > 0
    assert scipy.stats.kstest(drawn.strength.flatten() / 5, "expon").pvalue > 1e-4
    everything = torch.stack([getattr(drawn, name).flatten() for name in (*uniform, "strength")])
    assert (torch.corrcoef(everything) - torch.eye(4)).abs().max() < 5 / 6000**0.5
    shares = [float(draw(image[:1], seed).share) for seed in range(1000)]
    assert scipy.stats.kstest(shares, "beta", (0.2, 0.2)).pvalue > 1e-4


def test_the_same_seed_makes_the_same_picture() -> None:
    image, label = pictures()
    first, again, other = (example(image, label, draw(image, seed)) for seed in (4, 4, 5))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.truth.label, again.truth.label)
    assert not torch.equal(first.inputs, other.inputs)


def test_a_step_is_one_graph(steps: Any) -> None:
    """All terms are linear in the label: they are those of either label, by its share."""

    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        share = drawn.share
        mixed = share * image + (1 - share) * image.roll(1, 0)
        inputs, target = (scaled(x) for x in (mixed + waves(drawn, (32, 32)), mixed))
        code = networks.image_encoder(inputs)
        own, other = (steps.loss_of_code(networks, code, target, y) for y in (label, label.roll(1, 0)))
        return share * own + (1 - share) * other

    steps.check_against_one_graph("afa-mixup", further, records=False, learns=True)


def scaled(image: Tensor) -> Tensor:
    low = -F.max_pool2d(-image, image.shape[2:])
    return (image - low) / (F.max_pool2d(image, image.shape[2:]) - low)
