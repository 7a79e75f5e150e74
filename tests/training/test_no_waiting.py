"""On a GPU a step may not wait for the device: shown without one, on tensors that have no values.

Tensors of the device "meta" have a shape only and compute nothing; whatever asks one for a value (`item`,
`tolist`, a branch on it, a copy to the host) raises, where on a GPU it would wait.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from coopseg.config.resolve import resolve_settings
from coopseg.networks.cooperative import Networks
from coopseg.training.augmentation import apply_augmentation, sample_augmentation
from coopseg.training.log import Meter
from coopseg.training.optimiser import make_optimiser
from coopseg.training.step import CooperativeStep

IMAGE, LABEL = (
    torch.empty(4, 1, 32, 32, device="meta"),
    torch.empty(4, 32, 32, device="meta", dtype=torch.long),
)


@pytest.mark.parametrize("preset", ["default", "miccai2021", "cpu"])
@pytest.mark.parametrize("method", ["coopseg", "cooperative", "standard"])
def test_a_step(preset: str, method: str) -> None:
    settings = resolve_settings(preset=preset, method=method, overrides={"network.width": 4})
    step: Any = CooperativeStep(Networks(classes=4, **dict(settings.network)).to("meta"), settings)
    meter = Meter()
    result = step.backward(IMAGE, LABEL, step.sample(IMAGE))
    meter.add(result, ())
    assert result.losses["total"].device.type == "meta"
    assert all(p.grad is None or p.grad.device.type == "meta" for p in step.networks.parameters())
    assert make_optimiser(step.networks, settings.training).defaults["fused"]


def test_the_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no device "meta"
    drawn = sample_augmentation(4, (32, 32), resolve_settings().augmentation).to("meta")
    inside = torch.zeros(4, 2, 2, device="meta")
    images, labels = apply_augmentation(IMAGE, LABEL, inside, drawn, size=(32, 32))
    assert images.shape == IMAGE.shape
    assert labels.shape == LABEL.shape


def test_waiting_would_be_noticed() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        IMAGE.sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        IMAGE.cpu()
