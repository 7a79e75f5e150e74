"""Training without labels: masked codes come to give what whole ones gave; all else stays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from coopseg.config.settings import Settings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norms
from coopseg.training import unlabelled
from coopseg.training.unlabelled import train_unlabelled

SCANS = [torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(n)) for n in range(3)]


@pytest.fixture
def networks() -> Networks:
    torch.manual_seed(0)
    return Networks(classes=3, width=4, kind="unet").eval().requires_grad_(False)


def settings(reconstruction: float, k: float | None = None) -> Settings:
    return Settings.checked(
        {
            "latent": {"image": False, "shape": False},
            "losses": {"reconstruction": reconstruction},
            "prediction": {"scan_statistics": k},
        }
    )


@pytest.mark.parametrize("k", [None, 1.0])
def test_masked_codes_come_closer(
    networks: Networks, k: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlabelled, "LEARNING_RATE", 3e-3)
    losses: list[float] = []
    train_unlabelled(networks, SCANS, settings(0, k), steps=60, progress=lambda *each: losses.append(each[2]))
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_only_what_is_trained_changes(networks: Networks, weight: float) -> None:
    before = copy.deepcopy(networks)
    train_unlabelled(networks, SCANS, settings(weight), steps=2)
    changed = {
        name.split(".")[0]
        for name, value in networks.named_parameters()
        if not torch.equal(value, before.get_parameter(name))
    }
    trained = {"image_encoder", "segmentation_decoder"}
    assert changed == (trained | {"image_decoder"} if weight else trained)
    for now, then in zip(norms(networks), norms(before), strict=True):
        torch.testing.assert_close((now.running_mean, now.running_var), (then.running_mean, then.running_var))
    assert not networks.training
    assert not any(value.requires_grad for value in networks.parameters())


def test_is_the_same_again(networks: Networks) -> None:
    def once() -> dict[str, Tensor]:
        own = copy.deepcopy(networks)
        train_unlabelled(own, SCANS, settings(0.5), steps=3, seed=4)
        return own.state_dict()

    first, second = once(), once()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
