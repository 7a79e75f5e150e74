"""The loss terms against their formulas written out in numpy."""

from __future__ import annotations

import numpy as np
import torch

from coopseg.training.losses import (
    cross_entropy,
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
