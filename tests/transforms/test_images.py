"""Transforms: what all of them promise, and that they do what the rivals' rows do."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg import transforms as T
from coopseg.config.rivals import BigAugSettings, SlaugSettings
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.networks import Networks
from coopseg.rivals.bigaug import BigAug
from coopseg.rivals.slaug import Slaug
from coopseg.training.losses import Ledger, rescale_slices
from coopseg.training.passes import Passes, Truth
from coopseg.training.rival import Batch


def network() -> nn.Module:
    """Maps images to logits, with norms of two kinds."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
    )  # fmt: skip


MAKERS: dict[str, Callable[[], Any]] = {
    "RandMWM": lambda: T.RandMWM(p=1.0),
    "BigAug": lambda: T.BigAug(p=1.0),
    "Heavy": lambda: T.Heavy(p_noise=1.0),
    "RandConv": T.RandConv,
    "GIN": T.GIN,
    "GINIPA": T.GINIPA,
    "AFA": T.AFA,
    "LocationScale": lambda: T.LocationScale(by_class=True),
    "LocationScale of all": lambda: T.LocationScale(by_class=False),
    "SLAug": lambda: T.SLAug(network(), grid=4),
    "AdvNoise": lambda: T.AdvNoise(network(), epsilon=0.5),
    "AdvBias": lambda: T.AdvBias(network()),
    "MaxStyle": lambda: T.MaxStyle(Networks(classes=3, width=2), p=1.0, steps=2),
}


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    label = torch.zeros(4, 32, 32, dtype=torch.long)
    label[:, 8:24, 8:24], label[:, 12:20, 12:20] = 1, 2
    return rescale_slices(0.3 * label[:, None] + 0.2 * torch.rand(4, 1, 32, 32)), label


@pytest.mark.parametrize("name", MAKERS)
def test_a_seed_replays_a_picture_and_nothing_else_is_touched(name: str, batch: Any) -> None:
    transform, (image, label) = MAKERS[name](), batch
    kept = image.clone(), label.clone()
    models = [value for value in vars(transform).values() if isinstance(value, nn.Module)]
    models += [m for value in vars(transform).values() for m in getattr(value, "children", list)()]
    states = copy.deepcopy([model.state_dict() for model in models])
    first, again, other = (transform(image, label, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(image, kept[0])
    assert torch.equal(label, kept[1])
    for model, state in zip(models, states, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", MAKERS)
def test_shapes_and_ranges(name: str, batch: Any) -> None:
    image, label = batch
    changed, target = MAKERS[name]()(image, label, torch.Generator().manual_seed(1))
    assert changed.shape == image.shape
    assert target.shape == label.shape
    assert target.dtype == label.dtype
    assert not changed.requires_grad
    assert changed.min() >= 0
    assert changed.max() <= 1
    if name not in ("BigAug", "Heavy"):  # the two that move the anatomy
        assert torch.equal(target, label)


@pytest.mark.parametrize("name", MAKERS)
def test_shapes_that_do_not_fit_are_refused(name: str, batch: Any) -> None:
    image, label = batch
    with pytest.raises(CoopsegError, match=r"label \(B, H, W\) are needed, found \(4, 1, 32, 32\)"):
        MAKERS[name]()(image, label[:, :16])


def test_keywords_are_listed_checked_and_explained() -> None:
    parameters = inspect.signature(T.GIN).parameters
    assert {name: p.default for name, p in parameters.items()} == {"layers": 4, "channels": 2}
    assert "layers: convolutions of a random network." in (T.GIN.__doc__ or "")
    with pytest.raises(TypeError, match="consistency"):  # a term of the row, not of the picture
        T.GIN(consistency=1.0)
    with pytest.raises(CoopsegError, match="setting layers: Input should be greater than or equal to 1"):
        T.GIN(layers=0)
    make: Any = T.AdvNoise
    with pytest.raises(TypeError, match="network"):
        make(epsilon=0.1)


def test_the_picture_is_that_of_the_row(batch: Any) -> None:
    image, label = batch
    rival = BigAug(BigAugSettings(p=1.0))
    drawn = rival.sample(image, (), torch.Generator().manual_seed(3))
    made: Any = Batch
    expected = rival.apply(made(Truth(image, label), None, False), drawn, Networks(classes=3, width=2))
    changed, target = T.BigAug(p=1.0)(image, label, torch.Generator().manual_seed(3))
    torch.testing.assert_close(changed, rescale_slices(expected.inputs))
    assert torch.equal(target, expected.truth.label)


def test_slaug_fuses_what_its_row_fuses(batch: Any) -> None:
    """The row's second pass, seen by a hook; without reconstruction its loss is that of the transform."""
    image, label = batch
    torch.manual_seed(0)
    networks, seen = Networks(classes=3, width=2), []
    networks.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    settings = Settings.checked({"losses": {"reconstruction": 0, "stn": False}, "latent": {"image": False}})
    rival: Any = Slaug(SlaugSettings(grid=4))
    drawn, made = rival.sample(image, (), torch.Generator().manual_seed(5)), Batch
    rival.add(Passes(networks, settings), made(Truth(image, label), None, False), drawn, Ledger())  # type: ignore[arg-type]

    class Fast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return networks.fast(x)

    changed, _ = T.SLAug(Fast(), grid=4)(image, label, torch.Generator().manual_seed(5))
    torch.testing.assert_close(changed, seen[1], rtol=1e-4, atol=1e-5)


def test_adversarial_noise_moves_the_prediction_more_than_any_noise(batch: Any) -> None:
    image, label = batch
    model = network().eval()

    @torch.no_grad()
    def moved(changed: Tensor) -> float:
        clean, found = (model(x).log_softmax(1) for x in (image, changed))
        return float(F.kl_div(found, clean, log_target=True, reduction="sum"))

    noise = torch.randn(4, 1, 32, 32)
    noise = 0.5 * noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    changed, _ = T.AdvNoise(model, epsilon=0.5)(image, label, torch.Generator().manual_seed(0))
    assert moved(changed) > 2 * moved((image + noise).clamp(0, 1))


def test_mixup_mixes_images_and_shares_alike(batch: Any) -> None:
    image, label = batch
    label = (label + torch.arange(4).view(-1, 1, 1)) % 3
    changed, shares = T.MixUp(3, alpha=1.0)(image, label, torch.Generator().manual_seed(0))
    share = float(shares[1].gather(0, label[1:2]).min())  # of the image itself
    mixed = share * image + (1 - share) * image.roll(1, 0)
    low, high = mixed.amin((1, 2, 3), keepdim=True), mixed.amax((1, 2, 3), keepdim=True)
    assert 0 < share < 1
    torch.testing.assert_close(changed, (mixed - low) / (high - low))
