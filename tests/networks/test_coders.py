"""A stem with scan statistics against the same stem with norms written out, and against the folded one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coopseg.networks.coders import Stem, scan_stem
from coopseg.networks.cooperative import Networks
from coopseg.networks.fold import fold
from coopseg.networks.norm import Norm, norms

Kind = Literal["batch", "running"]


def make(kind: Kind = "batch") -> Networks:
    """Networks in float64 whose norms have statistics, factors and shifts of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        networks = Networks(classes=3, width=3, norm=kind).double()
        with torch.no_grad():
            for norm in norms(networks):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
                norm.weight.normal_(1, 0.3)
                norm.bias.normal_()
    return networks.eval()


def stem_of(networks: Networks, k: float) -> Stem:
    return scan_stem(networks.image_encoder.stem, k)


def volume(slices: int, seed: int = 0) -> Tensor:
    return torch.rand(slices, 1, 32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mixed(x: Tensor, norm: Norm, k: float) -> Tensor:
    """By the formula."""
    share = len(x) / (len(x) + k)
    mean = (1 - share) * norm.running_mean + share * x.mean((0, 2, 3))
    variance = (1 - share) * norm.running_var + share * x.var((0, 2, 3), correction=0)
    return F.batch_norm(x, mean, variance, norm.weight, norm.bias, eps=1e-5)


def batchnorm(x: Tensor, norm: Norm, k: float) -> Tensor:
    """By PyTorch, as in training, where no slice but the volume's own counts."""
    theirs = nn.BatchNorm2d(x.shape[1], momentum=0.0, dtype=x.dtype)
    theirs.load_state_dict(norm.state_dict(), strict=False)
    return theirs(x)


class Obvious(nn.Module):
    """In the place of a Norm."""

    centres = False

    def __init__(self, norm: Norm, k: float, normalise: Callable[[Tensor, Norm, float], Tensor]) -> None:
        super().__init__()
        self.norm, self.k, self.normalise = norm, k, normalise

    def forward(
        self,
        x: Tensor,
        *,
        slope: float = 1.0,
        offset: Tensor | None = None,
        skip: Tensor | None = None,
        skip_bias: Tensor | None = None,
    ) -> Tensor:
        assert offset is None
        y = self.normalise(x, self.norm, self.k)
        if skip is not None:
            assert skip_bias is not None
            y = y + skip + skip_bias[:, None, None]
        return F.leaky_relu(y, slope)


def written_out(networks: Networks, k: float, normalise: Callable[..., Tensor] = mixed) -> Stem:
    found = copy.deepcopy(networks.image_encoder.stem)
    for name, child in list(found.named_children()):
        if isinstance(child, Norm):
            setattr(found, name, Obvious(child, k, normalise))
    return found


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["batch", "running"])
@pytest.mark.parametrize("k", [0.5, 6.0])
@pytest.mark.parametrize("slices", [1, 5])
@torch.no_grad()
def test_both_layers_of_the_stem(slices: int, k: float, kind: Kind) -> None:
    networks = make(kind)
    expected = written_out(networks, k)(volume(slices))
    assert_same(stem_of(networks, k)(volume(slices)), expected)
    assert (networks.image_encoder.stem(volume(slices)) - expected).abs().max() > 0.01


@torch.no_grad()
def test_k_of_0_is_batchnorm_in_training_mode() -> None:
    networks = make()
    assert_same(
        stem_of(networks, 0.0)(volume(5)),
        written_out(networks, 0.0, batchnorm)(volume(5)),
    )


@torch.no_grad()
def test_a_large_k_is_the_folded_stem() -> None:
    networks = make()
    assert_same(stem_of(networks, 1e15)(volume(5)), fold(networks).stem(volume(5)))


@torch.no_grad()
def test_a_single_slice_does_not_rule() -> None:
    networks = make()
    running = networks.image_encoder.stem(volume(1))
    apart = [
        float((stem_of(networks, k)(volume(1)) - running).std() / running.std()) for k in (0.0, 10.0, 1000.0)
    ]
    assert apart[0] > apart[1] > apart[2]
    assert apart[2] < 0.05


def test_the_networks_stay_as_they_are_and_what_was_made_follows_them() -> None:
    networks = make().train()
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    found = stem_of(networks, 6.0)
    with torch.no_grad():
        first = found(volume(3))
    assert all(module.training for module in networks.modules())
    assert not any(module.training for module in found.modules())
    assert all(norm.scan_statistics is None for norm in norms(networks))
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.requires_grad for parameter in networks.parameters())
    networks(volume(3))["FTN"].square().sum().backward()  # another batch is recorded, a step is taken
    torch.optim.SGD(networks.parameters(), 0.01).step()
    with torch.no_grad():
        again = found(volume(3))
        assert not torch.allclose(again, first)
        assert_same(again, written_out(networks.eval(), 6.0)(volume(3)))
