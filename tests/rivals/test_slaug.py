"""SLAug: its copies, the saliency against a loop, and its passes as one graph."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import BSpline
from torch import Tensor

from coopseg.config.rivals import SlaugSettings
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norm_mode, norms
from coopseg.rivals.location_scale import relocate
from coopseg.rivals.slaug import CLASSES, Copies, Slaug, by_class, saliency
from coopseg.training.ledger import Ledger
from coopseg.training.passes import Codes, Truth
from coopseg.training.rival import Batch


def draw(image: Tensor, seed: int = 0) -> Copies:
    return Slaug(SlaugSettings()).sample(image, None, torch.Generator().manual_seed(seed))


def scaled(image: Tensor) -> Tensor:
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low)


def slow_saliency(gradient: np.ndarray, grid: int) -> np.ndarray:
    """One image (C, H, W) whose sides are multiples of `grid`."""
    strength = np.sqrt((gradient**2).mean(0))
    height, width = (side // grid for side in strength.shape)
    spline = BSpline.basis_element([-1.5, -0.5, 0.5, 1.5], extrapolate=False)
    smooth = np.zeros_like(strength)
    for i in range(grid):
        for j in range(grid):
            mean = strength[i * height : (i + 1) * height, j * width : (j + 1) * width].mean()
            rows = spline((np.arange(strength.shape[0]) + 0.5) / height - i - 0.5)
            columns = spline((np.arange(strength.shape[1]) + 0.5) / width - j - 0.5)
            smooth += mean * np.outer(np.nan_to_num(rows), np.nan_to_num(columns))
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


@pytest.mark.parametrize(("channels", "size"), [(1, 1.0), (2, 1e-12)])
def test_saliency_is_a_smooth_map_of_gradients_of_any_size(channels: int, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = size * torch.randn(3, channels, 24, 36, generator=generator, dtype=torch.float64)
    found = saliency(gradient, 6)
    assert found.shape == (3, 1, 24, 36)
    for b in range(3):
        np.testing.assert_allclose(found[b, 0], slow_saliency(gradient[b].numpy(), 6), atol=1e-9)


def test_where_nothing_is_salient_the_local_copy_stays() -> None:
    assert (saliency(torch.zeros(2, 1, 32, 32), 18) == 0).all()


def test_the_local_copy_keeps_what_is_dark(steps: Any) -> None:
    image, label = steps.make_batch()
    curves = draw(image).classes
    found = by_class(image, label, curves.first(3))
    dark = image <= 0.01
    assert dark.any()
    assert torch.equal(found[dark], image[dark])
    assert torch.equal(found[~dark], relocate(image, label, curves.first(3))[~dark])


def test_background_always_falls_and_other_classes_half_the_time() -> None:
    copies = draw(torch.zeros(1000, 1, 2, 2))
    assert not copies.whole.falling.any()
    assert copies.classes.falling[:, 0].all()
    share = float(copies.classes.falling[:, 1:].float().mean())
    assert share == pytest.approx(0.5, abs=5 * 0.5 / (1000 * (CLASSES - 1)) ** 0.5)


def test_more_classes_than_curves_are_refused_at_the_first_step(steps: Any) -> None:
    image, label = steps.make_batch()
    nothing = torch.empty(0)
    codes = Codes(nothing, {}, nothing, nothing, {}, nothing)
    batch = Batch(Truth(image, label), codes, joint=True, progress=0.0)
    passes = SimpleNamespace(networks=SimpleNamespace(classes=33))
    with pytest.raises(CoopsegError, match="slaug draws curves for 32 classes, found 33; merge some"):
        Slaug(SlaugSettings()).add(passes, batch, draw(image), Ledger())


def dice_loss(p: Tensor, label: Tensor) -> Tensor:
    """Over images and classes, with squares below."""
    probability, exact = torch.softmax(p, 1), F.one_hot(label, 3).permute(0, 3, 1, 2)
    terms = []
    for b in range(len(p)):
        for k in range(3):
            a, y = probability[b, k], exact[b, k]
            terms.append(1 - 2 * (a * y).sum() / (a.square().sum() + y.sum()))
    return torch.stack(terms).mean()


def test_two_passes_of_which_the_second_reads_the_saliency_of_the_first(steps: Any) -> None:
    def loss(networks: Networks, inputs: Tensor, image: Tensor, label: Tensor) -> Tensor:
        code = networks.image_encoder(inputs)
        twice = norms(networks.image_encoder, networks.segmentation_decoder)
        with norm_mode(twice, record=False, learn=True):  # loss_of_code makes p too, and records it
            p = networks.segmentation_decoder(networks.image_encoder.decoupler(code))
        return steps.loss_of_code(networks, code, image, label) + 0.7 * dice_loss(p, label)

    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        everywhere = relocate(image, torch.zeros_like(label), drawn.whole)
        inputs = scaled(everywhere).requires_grad_()
        first = loss(networks, inputs, image, label)
        (gradient,) = torch.autograd.grad(first, inputs, retain_graph=True)
        s = torch.stack([torch.from_numpy(slow_saliency(one.numpy(), 8)) for one in gradient])[:, None]
        fused = s * everywhere + (1 - s) * by_class(image, label, drawn.classes.first(3))
        return first + loss(networks, scaled(fused), image, label)

    steps.check_against_one_graph("slaug", further, records=True, learns=True, grid=8, dice=0.7)


@pytest.mark.parametrize(("progress", "fuses"), [(0.0, False), (0.29, False), (0.3, True), (1.0, True)])
def test_until_the_warm_up_is_over_only_the_global_copy_is_trained_on(
    steps: Any, progress: float, fuses: bool
) -> None:
    image, label = steps.make_batch()
    step = steps.make_step("slaug", warmup=0.3)
    choice = step.sample(image, torch.Generator().manual_seed(1), progress=progress)
    losses = step.backward(image, label, choice).losses
    assert "slaug_dice" in losses
    assert ("slaug_fused_segmentation" in losses) == fuses


@pytest.mark.parametrize(("everywhere", "total"), [(0.0, 1.0), (0.4, 1.0), (2.0, 2.0)])
def test_dice_of_every_pass_is_not_counted_twice(steps: Any, everywhere: float, total: float) -> None:
    """`losses.dice` counts in these passes too, by the larger of the two weights."""
    image, label = steps.make_batch()
    step = steps.make_step("slaug")
    losses = step.settings.losses.model_copy(update={"dice": everywhere})
    step.passes.settings = step.settings.model_copy(update={"losses": losses})
    early = step.sample(image, torch.Generator().manual_seed(1), progress=0.0)
    found = step.backward(image, label, early).losses
    weights = found["total"] - sum(
        value * {"reconstruction": 0.5}.get(name.removeprefix("slaug_"), 1.0)
        for name, value in found.items()
        if name != "total" and "dice" not in name
    )
    clean = found["dice"] if everywhere else 0.0
    assert float(weights) == pytest.approx(float(everywhere * clean + total * found["slaug_dice"]))


def test_the_same_seed_makes_the_same_copies() -> None:
    image = torch.rand(3, 1, 32, 32)
    first, again, other = (draw(image, seed) for seed in (4, 4, 5))
    assert torch.equal(first.whole.points, again.whole.points)
    assert torch.equal(first.classes.location, again.classes.location)
    assert not torch.equal(first.classes.points, other.classes.points)
