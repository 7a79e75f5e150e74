"""Optimiser, schedule and averaged weights against torch's own and a slow loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from coopseg.config.settings import TrainingSettings
from coopseg.networks.norm import Norm
from coopseg.training.optimiser import WeightAverage, make_optimiser, make_schedule


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_fused_optimiser_takes_the_plain_ones_steps(
    name: str, kind: type[torch.optim.Adam | torch.optim.AdamW]
) -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    settings = TrainingSettings(optimizer=name, learning_rate=0.01, weight_decay=0.1)
    pairs = [
        (ours, make_optimiser(ours, settings)),
        (theirs, kind(theirs.parameters(), lr=0.01, weight_decay=0.1)),
    ]
    x = torch.randn(5, 3)
    for _ in range(4):
        for network, optimiser in pairs:
            optimiser.zero_grad()
            network(x).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def rates(settings: TrainingSettings, steps: int) -> list[float]:
    network = nn.Linear(1, 1)
    optimiser = make_optimiser(network, settings)
    schedule = make_schedule(optimiser, settings, steps)
    found = []
    for step in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if schedule and step < steps - 1:
            schedule.step()
    return found


def test_one_cycle_rises_to_the_rate_and_ends_at_nothing() -> None:
    found = rates(TrainingSettings(schedule="one_cycle", learning_rate=0.1, warmup=0.2), 50)
    peak = found.index(max(found))
    assert max(found) == pytest.approx(0.1, rel=1e-2)
    assert peak == pytest.approx(0.2 * 50, abs=1)
    assert found[-1] < 1e-4 * 0.1
    assert found[:peak] == sorted(found[:peak])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_cool_down_rises_stays_and_falls_in_straight_lines() -> None:
    settings = TrainingSettings(schedule="cool_down", learning_rate=0.1, warmup=0.2, cool_down=0.5)
    found = np.array(rates(settings, 20)) / 0.1
    np.testing.assert_allclose(found[:4], [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found[4:11], 1)
    np.testing.assert_allclose(found[11:], np.arange(9, 0, -1) / 10)
    with pytest.raises(ValueError, match="add up to 1 at most"):
        TrainingSettings(schedule="cool_down", warmup=0.6, cool_down=0.5)


@pytest.mark.parametrize(
    ("warmup", "steps"), [(0.2, 50), (0.0, 10), (0.05, 20), (0.5, 2), (1.0, 10), (0.1, 5)]
)
def test_one_cycle_is_two_half_cosines(warmup: float, steps: int) -> None:
    found = rates(TrainingSettings(schedule="one_cycle", learning_rate=0.1, warmup=warmup), steps)

    def cosine(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    peak = warmup * steps - 1 if warmup * steps > 1 else -1  # in steps, counted from 0
    expected = [
        cosine(0.1 / 25, 0.1, step / peak)
        if step <= peak
        else cosine(0.1, 0.1 / 25 / 1e4, (step - peak) / (steps - 1 - peak))
        for step in range(steps)
    ]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_constant_schedule_keeps_the_rate() -> None:
    assert set(rates(TrainingSettings(learning_rate=0.1), 5)) == {0.1}


def test_the_average_of_every_weight_and_statistic_follows_its_recurrence() -> None:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), Norm(3))
    average = WeightAverage(network, 0.9)
    expected = {name: value.double().numpy().copy() for name, value in network.state_dict().items()}
    assert "1.running_var" in expected
    for n in range(1, 100):
        for value in network.state_dict().values():
            value.copy_(torch.randn(value.shape, generator=generator))
        average.update(network)
        decay = min(0.9, (1 + n) / (10 + n))
        for name, value in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double().numpy()
    for name, value in average.values.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


def test_the_average_forgets_its_random_start_at_once() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1e6)
    average = WeightAverage(network, 0.999)
    nn.init.constant_(network.weight, 1.0)
    for _ in range(100):
        average.update(network)
    # 0.999 from the start would have kept nine tenths of it.
    assert average.values["weight"].item() == pytest.approx(1, abs=1e-3)
