"""Self-challenging: its masks against sorting by hand, its step against one graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.resolve import resolve_settings
from coopseg.config.rivals import RscSettings
from coopseg.latent.choice import CHANNEL, SPATIAL
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norm_mode
from coopseg.rivals.rsc import RULE, Choices, Rsc
from coopseg.training.rival import own_networks
from coopseg.training.step import CooperativeStep


def draw(code: tuple[int, ...], seed: int = 0) -> Choices:
    image = torch.zeros(code[0], 1, 16, 16)
    return Rsc(RscSettings()).sample(image, code, torch.Generator().manual_seed(seed))


def slow_mask(gradient: Tensor, scheme: Tensor) -> Tensor:
    """1 but for the int(n/3) channels or positions of highest mean gradient, which are 0."""
    mask = torch.ones_like(gradient)
    for sample, kind in enumerate(scheme.tolist()):
        values = gradient[sample]
        if kind == CHANNEL:
            means = [float(channel.mean()) for channel in values]
            for index in sorted(range(len(means)), key=lambda i: -means[i])[: len(means) // 3]:
                mask[sample, index] = 0
        else:
            height, width = values.shape[1:]
            places = [(y, x) for y in range(height) for x in range(width)]
            places.sort(key=lambda place: -float(values[:, place[0], place[1]].mean()))
            for y, x in places[: len(places) // 3]:
                mask[sample, :, y, x] = 0
    return mask


@pytest.mark.parametrize(("channels", "side"), [(32, 3), (16, 4), (7, 5), (128, 12)])
def test_the_third_of_the_highest_gradient_is_masked(channels: int, side: int) -> None:
    code = (6, channels, side, side)
    drawn = draw(code).image
    gradient = torch.randn(code, generator=torch.Generator().manual_seed(1))
    assert set(drawn.scheme.tolist()) == {CHANNEL, SPATIAL}
    dead = torch.zeros(code)  # whether a channel is alive plays no part
    mask = RULE.build(drawn, dead, gradient)
    assert torch.equal(mask.expand(code), slow_mask(gradient, drawn.scheme))


def test_the_third_is_exact_for_any_number() -> None:
    fraction = draw((1, 3, 1, 1)).image.fraction
    for n in range(1, 20000):
        assert int((fraction * n).long()) == n // 3


def test_channels_and_positions_are_equally_likely_in_either_code() -> None:
    drawn = draw((4000, 3, 1, 1))
    for choice in (drawn.image, drawn.shape):
        assert float((choice.scheme == SPATIAL).float().mean()) == pytest.approx(0.5, abs=0.04)
    both = (drawn.image.scheme == drawn.shape.scheme).float().mean()
    assert float(both) == pytest.approx(0.5, abs=0.04)


def test_the_same_seed_draws_the_same() -> None:
    one, again, other = (draw((64, 3, 1, 1), seed) for seed in (0, 0, 1))
    assert torch.equal(one.image.scheme, again.image.scheme)
    assert torch.equal(one.shape.scheme, again.shape.scheme)
    assert not torch.equal(one.image.scheme, other.image.scheme)


def masked_terms(
    networks: Any, noisy: Tensor, image: Tensor, label: Tensor, drawn: Choices, *, joint: bool
) -> Tensor:
    """L_std without CE(C(y), y), and what the masks add, all in one graph."""

    def stn(p: Tensor) -> Tensor:
        return F.cross_entropy(networks.refine(torch.softmax((p if joint else p.detach()) / 2, 1)), label)

    def segment(code: Tensor) -> Tensor:
        p = networks.segmentation_decoder(code)
        return F.cross_entropy(p, label) + stn(p)

    def restore(code: Tensor) -> Tensor:
        return 0.5 * F.mse_loss(networks.image_decoder(code), image)

    z_i, z_s = networks.encode(noisy)
    target = F.one_hot(label, 3).permute(0, 3, 1, 2)
    # the gradients at the two codes, the other branch kept apart
    at_i, at_s = (code.detach().requires_grad_() for code in (z_i, z_s))
    with norm_mode(networks, record=False, learn=True):
        (by_image,) = torch.autograd.grad((networks.image_decoder(at_i) * image).mean(), at_i)
        (by_shape,) = torch.autograd.grad((networks.segmentation_decoder(at_s) * target).mean(), at_s)
    m_i = slow_mask(by_image, drawn.image.scheme)
    m_s = slow_mask(by_shape, drawn.shape.scheme)
    standard = segment(z_s) + restore(z_i)
    masked = restore(m_i * z_i) + segment(networks.image_encoder.shape_code(m_i * z_i)) + segment(m_s * z_s)
    return standard + masked


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("network", [{}, {"shared_code": True}, {"decoupler": False}])
def test_a_step_is_one_graph(steps: Any, joint: bool, network: dict[str, Any]) -> None:
    image, label = steps.make_batch()
    step: Any = make_step(joint=joint, **network)
    plain: Any = make_step(joint=joint, **network)
    choice = step.sample(image, torch.Generator().manual_seed(1))
    result = step.backward(image, label, choice)

    networks, trained = (own_networks(each.networks, "rsc") for each in (plain, step))
    noisy = (image + 0.05 * choice.noise).clamp(0, 1)
    total = F.cross_entropy(networks.refine(F.one_hot(label, 3).permute(0, 3, 1, 2).double()), label)
    total = total + masked_terms(networks, noisy, image, label, choice.rivals[0], joint=joint)
    total.backward()
    torch.testing.assert_close(result.losses["total"], total.detach())
    mine = dict(trained.named_parameters())
    for name, parameter in networks.named_parameters():
        if mine[name].grad is not None:  # a bias that a norm undoes has none
            torch.testing.assert_close(mine[name].grad, parameter.grad, rtol=1e-7, atol=1e-10)

    found = dict(trained.named_buffers())
    for name, statistics in networks.named_buffers():  # the masked passes are recorded
        torch.testing.assert_close(found[name], statistics, rtol=1e-12, atol=1e-14)


def make_step(*, joint: bool, **network: Any) -> CooperativeStep:
    overrides = {f"network.{name}": value for name, value in network.items()}
    method = "cooperative-no-latent+rsc" if joint else "rsc"
    found = resolve_settings(method=method, overrides={"network.width": 2} | overrides)
    torch.manual_seed(0)
    return CooperativeStep(Networks(classes=3, **dict(found.network)).double(), found)
