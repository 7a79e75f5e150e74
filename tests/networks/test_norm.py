"""Norm against torch.nn.BatchNorm2d, and what each mode touches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from coopseg.errors import CoopsegError
from coopseg.latent import LatentMasks, frozen_norms
from coopseg.networks import norm as module
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import Norm, norm_layers, norm_mode, own_statistics, recorded_twice


def test_equals_batchnorm_in_both_modes() -> None:
    ours, theirs = Norm(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5) * 2 + 1
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_a_mode_neither_records_nor_learns_and_ends_with_its_block() -> None:
    norm = Norm(3)
    x = torch.randn(4, 3, 5, 5)
    with norm_mode(norm, record=False, learn=False):
        quiet = norm(x)
    assert not quiet.requires_grad
    assert norm.running_mean.abs().max() == 0
    loud = norm(x)
    torch.testing.assert_close(loud, quiet)
    assert loud.requires_grad
    assert norm.running_mean.abs().max() > 0


def test_running_statistics_make_samples_independent() -> None:
    norm = Norm(2, running=True)
    x = torch.randn(4, 2, 3, 3)
    torch.testing.assert_close(norm(x)[:2], norm(x[:2]))


def used(**choices: Any) -> Norm:
    """A norm in evaluation mode that has seen other batches."""
    norm = Norm(3, **choices)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm.eval()


@pytest.mark.parametrize("running", [False, True])
def test_scan_statistics_are_mixed_by_the_number_of_slices(running: bool) -> None:
    norm = used(running=running)
    before = norm.running_mean.clone(), norm.running_var.clone()
    norm.scan_statistics = 6.0
    x, skip = torch.randn(2, 4, 3, 5, 7) * 2 + 1
    found = norm(x, slope=0.2, skip=skip, skip_bias=torch.ones(3))
    weight, bias, running_mean, running_var = (
        tensor.detach().double().numpy()[:, None, None] for tensor in (norm.weight, norm.bias, *before)
    )
    values = x.double().numpy()
    mean, variance = (
        0.6 * kept + 0.4 * own[:, None, None]  # 4 of 4 + 6 slices
        for kept, own in (
            (running_mean, values.mean((0, 2, 3))),
            (running_var, values.var((0, 2, 3))),
        )
    )
    y = (values - mean) / np.sqrt(variance + 1e-5) * weight + bias + skip.numpy() + 1
    np.testing.assert_allclose(found.detach(), np.where(y > 0, y, 0.2 * y), rtol=1e-4, atol=1e-5)
    assert torch.equal(norm.running_mean, before[0])
    assert torch.equal(norm.running_var, before[1])


def test_scan_statistics_alone_are_those_of_batchnorm_in_training_mode() -> None:
    norm, theirs = used(), nn.BatchNorm2d(3, momentum=0.0)
    theirs.load_state_dict(norm.state_dict(), strict=False)
    norm.scan_statistics = 0.0
    x = torch.randn(4, 3, 5, 5) * 2 + 1
    torch.testing.assert_close(norm(x), theirs(x))


def test_scan_statistics_are_for_evaluation_mode() -> None:
    norm, theirs = used().train(), nn.BatchNorm2d(3)
    theirs.load_state_dict(norm.state_dict(), strict=False)
    norm.scan_statistics = 6.0
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(norm(x), theirs(x))
    torch.testing.assert_close(norm.running_var, theirs.running_var)


@pytest.mark.parametrize("at_once", [1, 400, 10**9])  # values; a slice has 192
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_own_statistics_far_from_zero(
    dtype: torch.dtype, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VALUES_AT_ONCE", at_once)
    x = (torch.randn(7, 3, 8, 8) * 20 + torch.tensor([0.0, 1e3, -1e4])[:, None, None]).to(dtype)
    mean, variance = own_statistics(x, torch.float32)
    assert mean.dtype == variance.dtype == torch.float32
    torch.testing.assert_close(mean.double(), x.double().mean((0, 2, 3)), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(variance.double(), x.double().var((0, 2, 3), correction=0), rtol=1e-4, atol=0)


def test_evaluation_mode_can_be_that_of_the_norms_alone() -> None:
    torch.manual_seed(0)
    networks, image = Networks(classes=3, width=4), torch.rand(4, 1, 32, 32)
    networks(image)
    with norm_mode(networks, record=False, learn=True, evaluate=True):
        found = networks.fast(image)
    assert not torch.allclose(networks.fast(image), found)
    reference = Networks(classes=3, width=4)
    reference.load_state_dict(networks.state_dict())
    with norm_mode(networks, record=False, learn=True, evaluate=True):
        torch.testing.assert_close(networks.fast(image), reference.eval().fast(image))


LAYERS = {
    "ours": (Norm(4), (3, 4, 5, 5)),
    "batch 1-D": (nn.BatchNorm1d(4), (3, 4, 5)),
    "batch 2-D": (nn.BatchNorm2d(4), (3, 4, 5, 5)),
    "batch 2-D, averaged": (nn.BatchNorm2d(4, momentum=None), (3, 4, 5, 5)),
    "batch 3-D": (nn.BatchNorm3d(4), (3, 4, 5, 5, 5)),
    "instance": (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), (3, 4, 5, 5)),
    "instance, no statistics": (nn.InstanceNorm3d(4, affine=True), (3, 4, 5, 5, 5)),
    "group": (nn.GroupNorm(2, 4), (3, 4, 5, 5)),
    "layer": (nn.LayerNorm(5), (3, 4, 5)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_frozen_norms_are_left_alone_whoever_wrote_them(kind: str, training: bool) -> None:
    layer, shape = LAYERS[kind]
    module = nn.Sequential(nn.Sequential(layer)).train(training)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    tensors = [*layer.parameters(), *layer.buffers()]
    torch.manual_seed(0)
    x = (3 * torch.randn(shape) + 1).requires_grad_()
    with frozen_norms(module):
        y = module(x)
        (frozen,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    y.sum().backward()  # after the block
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    kept = zip(tensors, [*layer.parameters(), *layer.buffers()], strict=True)
    assert all(before is after for before, after in kept)  # the optimiser's own
    assert all(parameter.requires_grad for parameter in layer.parameters())
    # the values and the gradient of the input are those of the layer as it is
    z = module(x)
    torch.testing.assert_close(y, z)
    torch.testing.assert_close(frozen, torch.autograd.grad(z.square().sum(), x, retain_graph=True)[0])
    z.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    module.load_state_dict(state)
    module.zero_grad()


def test_a_synchronised_layer_is_frozen_too() -> None:
    layer = nn.SyncBatchNorm(4).eval()  # training needs several GPUs
    assert norm_layers(layer) == [layer]
    with frozen_norms(layer):
        assert not any(parameter.requires_grad for parameter in layer.parameters())
        layer.get_buffer("running_mean").add_(1)
    assert layer.get_buffer("running_mean").abs().max() == 0


def test_a_frozen_block_ends_after_an_error() -> None:
    layer = nn.BatchNorm2d(4)
    weight, mean = layer.weight, layer.running_mean
    with pytest.raises(ValueError, match="expected 4D"), frozen_norms(layer):
        layer(torch.rand(3))
    assert layer.weight is weight
    assert layer.running_mean is mean


def test_making_a_hard_example_leaves_anyones_decoder_alone() -> None:
    decoder = nn.Sequential(nn.Conv3d(8, 4, 1), nn.BatchNorm3d(4), nn.ReLU())
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    masks, code = LatentMasks(), torch.rand(3, 8, 4, 4, 4)
    choice = masks.sample(code.shape, torch.Generator().manual_seed(0))
    hard = masks.decode(decoder, [code], [choice], [torch.randn_like(code)])
    assert hard.shape == (3, 4, 4, 4, 4)
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())


@pytest.mark.parametrize("make", [Norm, nn.BatchNorm2d])
def test_statistics_recorded_twice_are_those_of_two_passes(make: type[nn.Module]) -> None:
    once, twice, x = make(4), make(4), torch.randn(3, 4, 5, 5) + 1
    with recorded_twice(nn.Sequential(once)):
        once(x)
    twice(x)
    twice(x)
    torch.testing.assert_close(once.running_mean, twice.running_mean)
    torch.testing.assert_close(once.running_var, twice.running_var)


def test_a_layer_that_averages_all_batches_cannot_record_twice() -> None:
    with pytest.raises(CoopsegError, match="norm layers with a momentum"):
        recorded_twice(nn.BatchNorm2d(4, momentum=None)).__enter__()
