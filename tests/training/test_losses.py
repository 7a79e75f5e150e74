"""The loss terms against their formulas written out in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage as ndi
import scipy.special
import torch
from torch import Tensor

from coopseg.training.losses import (
    Ledger,
    contour_distance,
    cross_entropy,
    divergence,
    one_hot,
    reconstruction,
    rescale_slices,
    soft_dice_loss,
    soften,
)


def test_cross_entropy_is_the_mean_of_minus_log_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    label = torch.randint(4, (2, 5, 6), generator=generator)
    p = np.exp(logits.numpy())
    p /= p.sum(1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, label.numpy()[:, None], 1)).mean()
    np.testing.assert_allclose(cross_entropy(logits, label), expected, rtol=1e-5)


def test_cross_entropy_of_shares_is_that_of_the_labels_by_their_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    first, second = torch.randint(4, (2, 2, 5, 6), generator=generator)
    shares = 0.3 * one_hot(first, 4, logits) + 0.7 * one_hot(second, 4, logits)
    expected = 0.3 * cross_entropy(logits, first) + 0.7 * cross_entropy(logits, second)
    np.testing.assert_allclose(cross_entropy(logits, shares), expected, rtol=1e-12)


def test_soft_dice_image_by_image_and_class_by_class() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)
    label = torch.randint(3, (3, 5, 6), generator=generator)  # no image shows the last class
    p = np.exp(logits.numpy())
    p /= p.sum(1, keepdims=True)
    losses = []
    for image in range(3):
        for c in range(4):
            y = (label[image] == c).numpy()
            losses.append(1 - 2 * (p[image, c] * y).sum() / ((p[image, c] ** 2).sum() + y.sum()))
    assert losses[3] == 1
    np.testing.assert_allclose(soft_dice_loss(logits, label), np.mean(losses), rtol=1e-12)
    assert torch.autograd.gradcheck(lambda t: soft_dice_loss(t, label), logits.requires_grad_())


def test_soft_dice_is_0_for_the_label_and_finite_for_its_opposite() -> None:
    label = torch.arange(3).repeat(2, 4, 2)
    logits = (1e4 * one_hot(label, 3, torch.empty(0))).requires_grad_()
    assert soft_dice_loss(logits, label) == 0
    found = soft_dice_loss(-logits, label)
    found.backward()
    assert found == 1
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    # a class that is neither shown nor predicted, where nothing is left to divide by
    nowhere = torch.zeros(1, 2, 4, 4)
    nowhere[:, 1] = -1e4
    assert soft_dice_loss(nowhere.requires_grad_(), torch.zeros(1, 4, 4).long()) == 0.5


def test_reconstruction_is_the_mean_square_without_a_half() -> None:
    generator = torch.Generator().manual_seed(0)
    decoded, image = torch.rand(2, 2, 1, 5, 6, generator=generator)
    expected = ((decoded.numpy().astype(np.float64) - image.numpy()) ** 2).mean()
    np.testing.assert_allclose(reconstruction(decoded, image), expected, rtol=1e-5)


def test_losses_keep_float64_and_widen_bfloat16() -> None:
    image = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    assert reconstruction(image, image).dtype == torch.float64
    assert reconstruction(image.bfloat16(), image.float()).dtype == torch.float32


def test_soften_divides_before_the_softmax() -> None:
    logits = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1)
    np.testing.assert_allclose(soften(logits, 2.0)[0, 0], 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_one_hot_marks_the_class_and_keeps_the_memory_layout() -> None:
    label = torch.randint(4, (2, 8, 8))
    like = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    marks = one_hot(label, 4, like)
    assert torch.equal(marks.argmax(1), label)
    assert torch.equal(marks.sum(1), torch.ones(2, 8, 8))
    assert marks.is_contiguous(memory_format=torch.channels_last)
    assert one_hot(label, 4, like.contiguous()).is_contiguous()
    assert one_hot(label, 4, like.double()).dtype == torch.float64


def test_rescaled_slices_reach_0_and_1_and_flat_ones_become_0() -> None:
    images = torch.stack(
        [torch.rand(1, 4, 4) * 3 - 1, torch.full((1, 4, 4), 0.7) + 1e-7 * torch.rand(1, 4, 4)]
    )
    scaled = rescale_slices(images)
    assert scaled[0].min() == 0
    assert scaled[0].max() == 1
    assert scaled[1].abs().max() == 0
    assert rescale_slices(torch.full((1, 1, 4, 4), 0.3)).abs().max() == 0
    low, high = images[0].min(), images[0].max()
    np.testing.assert_allclose(scaled[0], (images[0] - low) / (high - low), rtol=1e-5)


def test_terms_are_noted_unweighted_and_summed_weighted() -> None:
    ledger = Ledger()
    first = torch.tensor(3.0, requires_grad=True)
    assert float(ledger.add("first", first, 0.5).detach()) == 1.5
    ledger.add("second", torch.tensor(4.0), 2.0)
    assert {name: float(value) for name, value in ledger.losses.items()} == {
        "first": 3.0,
        "second": 4.0,
        "total": 9.5,
    }
    assert not any(value.requires_grad for value in ledger.losses.values())


def test_what_is_returned_carries_the_weight_into_the_gradient() -> None:
    term = torch.tensor(3.0, requires_grad=True)
    Ledger().add("term", term, 0.25).backward()
    assert term.grad is not None
    assert float(term.grad) == 0.25


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
    assert other.grad is not None
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
