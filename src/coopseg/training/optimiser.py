"""Makes one fused optimiser over all networks and its schedule, and averages weights."""

from __future__ import annotations

from functools import partial
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from coopseg.config.settings import TrainingSettings

BETAS = (0.9, 0.999)


def make_optimiser(networks: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Makes Adam or AdamW over every parameter of the five networks."""
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(
        networks.parameters(),
        lr=settings.learning_rate,
        betas=BETAS,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def make_schedule(
    optimiser: torch.optim.Optimizer, settings: TrainingSettings, steps: int
) -> LRScheduler | None:
    """Makes a scheduler of the learning rate of every step, or returns None if that is constant.

    "one_cycle" (Smith and Topin 2018) rises to the learning rate, then falls to almost 0, both along a
    cosine. "cool_down" (Hägele et al. 2024) rises linearly, stays constant, then falls linearly towards 0.
    """
    if settings.schedule == "constant" or steps < 2:
        return None
    if settings.schedule == "cool_down":
        return LambdaLR(optimiser, partial(trapezoid, steps=steps, settings=settings))
    rises = settings.warmup * steps > 1  # torch divides by zero if the rise is one step long
    return OneCycleLR(
        optimiser,
        max_lr=settings.learning_rate,
        total_steps=steps,
        pct_start=settings.warmup if rises else 0.0,
        cycle_momentum=False,
    )


def trapezoid(done: int, *, steps: int, settings: TrainingSettings) -> float:
    """Returns the factor on the learning rate of the step after `done` of `steps` steps."""
    rise, fall = settings.warmup * steps, settings.cool_down * steps
    return min(1.0, (done + 1) / max(rise, 1), (steps - done) / max(fall, 1))


class AverageState(TypedDict):
    """Holds averaged weights and the number of updates that they have had."""

    updates: int
    values: dict[str, Tensor]


class WeightAverage:
    """Keeps an exponential moving average of weights and running statistics (Polyak and Juditsky 1992).

    The decay of update n is at most (1 + n) / (10 + n), so that the first, random weights do not linger.
    """

    def __init__(self, networks: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.values = {name: value.detach().clone() for name, value in networks.state_dict().items()}

    @torch.no_grad()
    def update(self, networks: nn.Module) -> None:
        """Adds the networks' present state to the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = networks.state_dict()
        torch._foreach_lerp_(list(self.values.values()), [state[name] for name in self.values], 1 - decay)

    def state_dict(self) -> AverageState:
        """Returns the average and the number of its updates."""
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state: AverageState) -> None:
        """Restores what `state_dict` returned."""
        self.updates = state["updates"]
        for name, value in self.values.items():
            value.copy_(state["values"][name])
