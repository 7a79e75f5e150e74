"""Distances between predictions against scipy, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import scipy.special
import torch
from torch import Tensor

from coopseg.networks.cooperative import Networks
from coopseg.rivals.divergence import clean_prediction, contour_distance, divergence


def logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(2, 4, 6, 7, generator=generator, dtype=torch.float64)


def test_divergence_is_the_mean_over_pixels() -> None:
    clean, other = logits(0), logits(1)
    p, q = (scipy.special.softmax(t.numpy(), 1) for t in (clean, other))
    pixels = [
        sum(scipy.special.rel_entr(p[b, c, y, x], q[b, c, y, x]) for c in range(4))
        for b in range(2)
        for y in range(6)
        for x in range(7)
    ]
    assert float(divergence(clean, other)) == pytest.approx(np.mean(pixels), rel=1e-12)
    assert float(divergence(other, clean)) != pytest.approx(np.mean(pixels), rel=1e-2)


def test_divergence_of_opposite_certainties_is_a_number() -> None:
    clean = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
    other = (-clean).requires_grad_()
    found = divergence(clean, other)
    found.backward()
    assert float(found.detach()) == pytest.approx(2e4)
    assert other.grad.flatten().tolist() == pytest.approx([-1, 1])


def test_contour_distance_compares_sobel_edges_of_the_foreground() -> None:
    clean, other = logits(0), logits(1)
    p, q = (scipy.special.softmax(t.numpy(), 1) for t in (clean, other))
    squares = [
        (ndi.sobel(p[b, c], axis, mode="constant") - ndi.sobel(q[b, c], axis, mode="constant")) ** 2
        for b in range(2)
        for c in range(1, 4)
        for axis in (0, 1)
    ]
    assert float(contour_distance(clean, other)) == pytest.approx(np.mean(squares), rel=1e-12)


@pytest.mark.parametrize("distance", [divergence, contour_distance])
def test_gradients_are_those_of_the_values_and_0_without_a_difference(
    distance: Callable[..., Tensor],
) -> None:
    clean, other = logits(0)[:1, :, :3, :3], logits(1)[:1, :, :3, :3].requires_grad_()
    assert torch.autograd.gradcheck(lambda t: distance(clean, t), other)
    same = clean.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(clean, same), same)
    assert float(gradient.abs().max()) < 1e-15


def test_bf16_does_not_round_what_is_left_of_two_contours() -> None:
    clean, other = logits(0).float(), logits(0).float() + 1e-3 * logits(1).float()
    exact = contour_distance(clean.double(), other.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = contour_distance(clean, other)
    assert float(found) == pytest.approx(float(exact), rel=1e-3)


def test_the_clean_prediction_leaves_no_trace(steps: Any) -> None:
    networks, (image, _) = steps.make_step("adv-noise").networks, steps.make_batch()
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    found = clean_prediction(networks, image)
    assert not found.requires_grad
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name])
    torch.testing.assert_close(found, training_prediction(networks, image))


def training_prediction(networks: Networks, image: Tensor) -> Tensor:
    """By the batch's statistics, whatever it records."""
    return networks.train()(image)["FTN"].detach()
