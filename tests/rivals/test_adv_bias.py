"""Adversarial bias fields against scipy's splines, by their limits, and in a step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import BSpline
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from coopseg.config.rivals import AdvBiasSettings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norms
from coopseg.rivals.adv_bias import AdvBias, bias_field
from coopseg.training.losses import rescale_slices
from coopseg.training.passes import Truth
from coopseg.training.rival import Batch

LIMITS = math.log(0.6), math.log(1.4)


def make_networks(seed: int) -> Networks:
    """With running statistics of some noise."""
    torch.manual_seed(seed)
    networks = Networks(classes=3, width=4).double()
    with torch.no_grad():
        for _ in range(20):
            networks(torch.rand(4, 1, 32, 32, dtype=torch.float64))
    return networks


def draw(image: Tensor, seed: int = 0) -> Tensor:
    return AdvBias(AdvBiasSettings()).sample(image, None, torch.Generator().manual_seed(seed))


def test_a_field_is_a_spline_surface_between_the_pixels_of_half_the_resolution() -> None:
    points = draw(torch.zeros(2, 1, 32, 48, dtype=torch.float64))
    found = bias_field(points, (32, 48), 0.5)
    knots = 0.5 * np.arange(-3, 6)
    coarse = [(np.arange(side // 2) + 0.5) / (side // 2) for side in (32, 48)]
    for sample in range(2):
        along_rows = BSpline(knots, points[sample, 0].numpy(), 3)(coarse[0])
        surface = np.exp(BSpline(knots, along_rows, 3, axis=1)(coarse[1]))
        for axis, side in enumerate((32, 48)):
            # the middles of the fine pixels, those at the border without a coarse one beyond them
            at = np.clip((np.arange(side) + 0.5) / 2 - 0.5, 0, side // 2 - 1)
            surface = np.apply_along_axis(  # type: ignore[call-overload]
                lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, surface
            )
        np.testing.assert_allclose(found[sample, 0], surface, rtol=1e-12)


def test_fields_stay_in_1_plus_or_minus_epsilon() -> None:
    corners = torch.tensor(LIMITS, dtype=torch.float64)[torch.randint(2, (200, 1, 5, 5))]
    found = bias_field(corners, (32, 32), 0.5)
    assert float(found.min()) >= 0.6 - 1e-12
    assert float(found.max()) <= 1.4 + 1e-12
    for limit, factor in zip(LIMITS, (0.6, 1.4), strict=True):
        flat = bias_field(torch.full((1, 1, 5, 5), limit, dtype=torch.float64), (16, 16), 0.5)
        torch.testing.assert_close(flat, torch.full_like(flat, factor))


def test_the_start_is_uniform_and_a_seed_repeats_it() -> None:
    image = torch.zeros(800, 1, 16, 16)
    drawn = draw(image)
    low, high = LIMITS
    assert drawn.shape == (800, 1, 5, 5)
    for share in (0.1, 0.5, 0.9):
        below = float((drawn < low + share * (high - low)).double().mean())
        assert below == pytest.approx(share, abs=5 * 0.5 / drawn.numel() ** 0.5)
    assert torch.equal(drawn, draw(image))
    assert not torch.equal(drawn, draw(image, 1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_step_has_length_1_along_the_gradient_and_climbs(steps: Any, seed: int) -> None:
    image, networks = steps.make_batch(seed)[0], make_networks(seed)
    rival, start = AdvBias(AdvBiasSettings()), draw(image, seed)
    found = rival.search(image, start, networks)
    networks.eval()

    def distance(points: Tensor) -> Tensor:
        field = bias_field(points, (32, 32), 0.5)
        with torch.no_grad():
            clean = networks.fast(image)
        return rival.distance(clean, networks.fast(rescale_slices(image * field)))

    movable = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(movable), movable)
    for sample in range(4):
        step = gradient[sample] / gradient[sample].norm()
        torch.testing.assert_close(found[sample], (start[sample] + step).clamp(*LIMITS))
        assert step.norm() == pytest.approx(1)
    assert float(distance(found).detach()) > float(distance(start).detach())


def test_the_search_leaves_networks_as_they_were(steps: Any) -> None:
    image, networks = steps.make_batch()[0], make_networks(0)
    layers = norms(networks)
    layers[0].eval()  # unlike the others
    layers[1].running = True
    modes = [(layer.training, layer.running, layer.record, layer.learn) for layer in layers]
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    AdvBias(AdvBiasSettings()).search(image, draw(image), networks)
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name])
    assert modes == [(layer.training, layer.running, layer.record, layer.learn) for layer in layers]
    assert all(parameter.grad is None for parameter in networks.parameters())


def test_bf16_finds_nearly_the_same_field(steps: Any) -> None:
    image, networks = steps.make_batch()[0].float(), make_networks(0).float()
    rival, start = AdvBias(AdvBiasSettings()), draw(image)
    exact = rival.search(image, start, networks)
    with torch.autocast("cpu", torch.bfloat16):
        found = rival.search(image, start, networks)
    assert F.cosine_similarity((found - start).flatten(1), (exact - start).flatten(1)).min() > 0.95


def test_a_step_is_one_graph(steps: Any) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        truth = Truth(image, label)
        found = AdvBias(AdvBiasSettings()).apply(Batch(truth, None, True), drawn, networks).inputs  # type: ignore[arg-type]
        low, high = found.amin((1, 2, 3), keepdim=True), found.amax((1, 2, 3), keepdim=True)
        inputs = (found - low) / (high - low)
        with torch.no_grad():
            clean = networks.fast(image)
        logits = networks.fast(inputs)
        divergence = kl_divergence(*(Categorical(logits=t.movedim(1, -1)) for t in (clean, logits)))
        contours = (edges(clean) - edges(logits)).square().mean()
        ordinary = steps.loss_of_code(networks, networks.image_encoder(inputs), image, label)
        return ordinary + divergence.mean() + 0.5 * contours

    steps.check_against_one_graph("adv-bias", further, records=False, learns=False)


def edges(logits: Tensor) -> Tensor:
    """Sobel edges of the foreground, by shifting."""
    p = F.pad(torch.softmax(logits, 1)[:, 1:], (1, 1, 1, 1))
    down = p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]
    right = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
    return torch.stack([down[..., 2:] - down[..., :-2], right[:, :, 2:] - right[:, :, :-2]])
