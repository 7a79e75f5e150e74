"""Optimiser, schedule and averaged weights against torch's own and a slow loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coopseg.config.settings import TrainingSettings
from coopseg.training.optimiser import WeightAverage, make_optimiser, make_schedule


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_fused_optimiser_takes_the_plain_ones_steps(name, kind):
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


def rates(settings, steps):
    network = nn.Linear(1, 1)
    optimiser = make_optimiser(network, settings)
    schedule = make_schedule(optimiser, settings, steps)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if schedule:
            schedule.step()
    return found


def test_one_cycle_rises_to_the_rate_and_ends_at_nothing():
    found = rates(TrainingSettings(schedule="one_cycle", learning_rate=0.1, warmup=0.2), 50)
    peak = found.index(max(found))
    assert max(found) == pytest.approx(0.1, rel=1e-2)
    assert peak == pytest.approx(0.2 * 50, abs=1)
    assert found[-1] < 1e-4 * 0.1
    assert found[:peak] == sorted(found[:peak])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_a_constant_schedule_keeps_the_rate():
    assert set(rates(TrainingSettings(learning_rate=0.1), 5)) == {0.1}


def test_the_average_follows_its_recurrence_and_forgets_the_start():
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.9)
    expected = network.weight.item()
    for n in range(1, 40):
        nn.init.constant_(network.weight, float(n))
        average.update(network)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert average.values["weight"].item() == pytest.approx(expected, rel=1e-5)
