"""SLAug: its curves, its copies, the saliency against a loop, and its passes as one graph."""

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
from coopseg.networks.norm import norm_mode
from coopseg.rivals.slaug import (
    CLASSES,
    VALUES,
    Copies,
    Curves,
    Slaug,
    bend,
    by_class,
    curve_table,
    quantiles,
    relocate,
    saliency,
    sample_curves,
)
from coopseg.training.losses import Ledger
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
    codes = Codes(nothing, {}, nothing, (), {}, nothing)
    batch = Batch(Truth(image, label), codes, joint=True, progress=0.0)
    passes: Any = SimpleNamespace(networks=SimpleNamespace(classes=33))
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
        twice = networks.image_encoder, networks.segmentation_decoder
        with norm_mode(*twice, record=False, learn=True):  # loss_of_code makes p too, and records it
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


MANY = 4000


def make_batch() -> tuple[Tensor, Tensor]:
    """Images (3, 2, 24, 20), float64 in [0.1, 0.9], and regions 0 to 3; the second image has no 2."""
    generator = torch.Generator().manual_seed(0)
    image = 0.1 + 0.8 * torch.rand(3, 2, 24, 20, generator=generator, dtype=torch.float64)
    region = torch.randint(4, (3, 24, 20), generator=generator)
    region[1][region[1] == 2] = 3
    return image, region


def draw_curves(image: Tensor, falling: tuple[float, ...] = (1, 0.5, 0.5, 0.5), seed: int = 1) -> Curves:
    return sample_curves(image, falling, torch.Generator().manual_seed(seed))


def slow_curve(values: np.ndarray, curves: Curves, b: int, r: int) -> np.ndarray:
    """Through points of the curve, close together."""
    low, high = values.min(), values.max()
    (x1, y1), (x2, y2) = (low + (high - low) * curves.points[b, r].numpy()).tolist()
    t = np.linspace(0, 1, 50_001)
    weights = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
    x = sum(w * c for w, c in zip(weights, (low, x1, x2, high), strict=True))
    y = sum(w * c for w, c in zip(weights, (low, y1, y2, high), strict=True))
    moved = np.interp(values, x, y)
    return low + high - moved if curves.falling[b, r] else moved


def slow_relocate(image: np.ndarray, region: np.ndarray, curves: Curves, b: int) -> np.ndarray:
    """One image (C, H, W)."""
    found = np.empty_like(image)
    for r in np.unique(region):
        inside = np.broadcast_to(region == r, image.shape)
        moved = slow_curve(image[inside], curves, b, r)
        low, high = np.percentile(moved, (20, 80))
        location = np.clip(float(curves.location[b, r]), -low, 1 - high)
        found[inside] = np.clip(moved * float(curves.scale[b, r]) + location, 0, 1)
    return found


def test_every_region_moves_by_its_own_curve() -> None:
    image, region = make_batch()
    curves = draw_curves(image)
    found = relocate(image, region, curves)
    for b in range(3):
        expected = slow_relocate(image[b].numpy(), region[b].numpy(), curves, b)
        np.testing.assert_allclose(found[b], expected, atol=2e-3)  # straight between VALUES points
    assert found.min() >= 0
    assert found.max() <= 1


def test_one_region_is_the_whole_image() -> None:
    image, region = make_batch()
    curves = draw_curves(image, (0.0,))
    found = relocate(image, torch.zeros_like(region), curves)
    for b in range(3):
        nowhere = np.zeros((24, 20), int)
        np.testing.assert_allclose(found[b], slow_relocate(image[b].numpy(), nowhere, curves, b), atol=2e-3)


def test_curves_are_exact_at_their_points() -> None:
    curves = draw_curves(torch.zeros(6, 1, 4, 4, dtype=torch.float64))
    table = curve_table(curves)
    assert table.shape == (6, 4, VALUES)
    for b in range(6):
        for r in range(4):
            expected = slow_curve(np.linspace(0, 1, VALUES), curves, b, r)
            np.testing.assert_allclose(table[b, r], expected, atol=1e-6)


def test_curves_are_monotone_and_reach_both_ends() -> None:
    curves = draw_curves(torch.zeros(300, 1, 4, 4, dtype=torch.float64), (0.0, 1.0))
    table = curve_table(curves)
    rising, falling = table.unbind(1)
    assert (rising.diff() >= 0).all()
    assert (falling.diff() <= 0).all()
    assert (table[:, :, [0, -1]] == torch.tensor([[0.0, 1], [1, 0]])).all()


def test_a_constant_region_and_single_precision() -> None:
    image, region = make_batch()
    image = torch.where(region[:, None] == 1, 0.4, image).float()
    curves = draw_curves(image)
    bent = bend(image.flatten(1), region[:, None].expand_as(image).flatten(1), curves).view_as(image)
    assert (bent[region[:, None].expand_as(image) == 1] == torch.tensor(0.4)).all()
    wide = Curves(**{name: v.double() if v.is_floating_point() else v for name, v in vars(curves).items()})
    torch.testing.assert_close(
        relocate(image, region, curves), relocate(image.double(), region, wide).float(), atol=1e-5, rtol=0
    )


def test_quantiles_are_numpys() -> None:
    image, region = make_batch()
    values, place = image.flatten(1), region[:, None].expand_as(image).flatten(1)
    found = quantiles(values, place, 4, (0.0, 0.2, 0.55, 1.0))
    for share, quantile in zip((0, 20, 55, 100), found, strict=True):
        for b in range(3):
            for r in set(region[b].flatten().tolist()):
                expected = np.percentile(values[b][place[b] == r].numpy(), share)
                assert float(quantile[b, r]) == pytest.approx(expected, abs=1e-12)


def test_draws_are_distributed_as_stated() -> None:
    curves = draw_curves(torch.zeros(MANY, 1, 2, 2), (0.0, 0.3, 1.0))
    assert not curves.falling[:, 0].any()
    assert curves.falling[:, 2].all()
    assert float(curves.falling[:, 1].float().mean()) == pytest.approx(0.3, abs=5 * (0.21 / MANY) ** 0.5)
    assert curves.points.min() >= 0
    assert curves.points.max() < 1
    assert float(curves.points.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(curves.points.var()) == pytest.approx(1 / 12, rel=0.05)
    assert float(curves.location.mean()) == pytest.approx(0, abs=5 * 0.5 / (3 * MANY) ** 0.5)
    assert float(curves.location.std()) == pytest.approx(0.5, rel=0.05)
    assert float(curves.scale.min()) == pytest.approx(0.9)
    assert float(curves.scale.max()) == pytest.approx(1.1)
    at_limit = ((curves.scale - 1).abs() > 0.1 - 1e-6).float().mean()  # beyond one deviation of a normal
    assert float(at_limit) == pytest.approx(0.3173, abs=5 * (0.22 / (3 * MANY)) ** 0.5)
    within = curves.scale[(curves.scale - 1).abs() < 0.1 - 1e-6]
    assert float(within.std()) == pytest.approx(0.1 * 0.5396, rel=0.05)  # of a normal cut off at 1


def test_first_regions_are_those_of_all() -> None:
    image, region = make_batch()
    curves = draw_curves(image)
    first = curves.first(2)
    assert first.scale.shape == (3, 2)
    assert torch.equal(relocate(image, region % 2, first), relocate(image, region % 2, curves))


def test_a_value_that_is_not_finite_stays_where_it_is() -> None:
    """The loop looks at the loss and names the slice; nothing may break before."""
    image, region = make_batch()
    image[0, 0, 3, 4] = torch.nan
    found = relocate(image, region, draw_curves(image))
    assert found[0].isnan().any()
    assert not found[1:].isnan().any()
