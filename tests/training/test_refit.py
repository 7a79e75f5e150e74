"""Refitted statistics make evaluation mode give what training mode gives on the same scans."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from coopseg.networks.coders import scan_stem
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import Norm, norms
from coopseg.training.refit import Statistics, blend_statistics, find_statistics


@pytest.fixture(params=["published", "unet"])
def networks(request: pytest.FixtureRequest) -> Networks:
    torch.manual_seed(0)
    made = Networks(classes=3, width=2, kind=request.param).eval()
    for number, layer in enumerate(norms(made)):
        torch.nn.init.normal_(layer.running_mean, std=0.5)
        torch.nn.init.uniform_(layer.running_var, 0.5 + 0.1 * (number % 3), 2)
    return made


@pytest.fixture
def scans() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.rand(slices, 1, 32, 32) for slices in (3, 5, 2)]


def test_one_batch_is_normalised_as_in_training(networks: Networks, scans: list[Tensor]) -> None:
    image = torch.cat(scans)
    before = copy.deepcopy(networks.state_dict())
    trained = copy.deepcopy(networks).train()
    with torch.no_grad():
        expected = trained.encode(image)
    found = find_statistics(networks, scans, None)
    assert all(torch.equal(value, before[name]) for name, value in networks.state_dict().items())
    assert not networks.training
    blend_statistics(networks, found, 1.0)
    with torch.no_grad():
        torch.testing.assert_close(networks.encode(image), expected, atol=1e-4, rtol=1e-4)


def test_with_scan_statistics_each_volume_passes_the_stem_alone(
    networks: Networks, scans: list[Tensor]
) -> None:
    stem = scan_stem(networks.image_encoder.stem, 1.0)
    with torch.no_grad():
        features = torch.cat([stem(scan) for scan in scans])
        expected = copy.deepcopy(networks).train().codes_after_stem(features)
    found = find_statistics(networks, scans, 1.0)
    first = found["image_encoder.stem.norm1"][0]
    with torch.no_grad():
        inputs = networks.image_encoder.stem.conv1(torch.cat(scans))
    torch.testing.assert_close(first.float(), inputs.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    deeper: Statistics = {name: value for name, value in found.items() if ".stem." not in name}
    blend_statistics(networks, deeper, 1.0)
    with torch.no_grad():
        torch.testing.assert_close(networks.codes_after_stem(features), expected, atol=1e-4, rtol=1e-4)


def test_batches_add_up(networks: Networks) -> None:
    """At the first norm, where nothing was normalised before, batches must not matter."""
    torch.manual_seed(2)
    scans = [torch.rand(2, 1, 32, 32) for _ in range(11)]
    mean, variance = find_statistics(networks, scans, None)["image_encoder.stem.norm1"]
    with torch.no_grad():
        inputs = networks.image_encoder.stem.conv1(torch.cat(scans)).double()
    torch.testing.assert_close(mean, inputs.mean((0, 2, 3)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(variance, inputs.var((0, 2, 3), correction=0), atol=1e-6, rtol=1e-5)


def test_the_share_mixes(networks: Networks, scans: list[Tensor]) -> None:
    found = find_statistics(networks, scans, None)
    layers = {name: layer for name, layer in networks.named_modules() if isinstance(layer, Norm)}
    before = {name: layers[name].running_var.clone() for name in found}
    blend_statistics(networks, found, 0.25)
    for name, (_, variance) in found.items():
        expected = 0.75 * before[name] + 0.25 * variance.float()
        torch.testing.assert_close(layers[name].running_var, expected)


def test_only_the_encoder_and_all_of_it(networks: Networks, scans: list[Tensor]) -> None:
    names = {name for name, layer in networks.image_encoder.named_modules() if isinstance(layer, Norm)}
    assert set(find_statistics(networks, scans, None)) == {f"image_encoder.{name}" for name in names}
