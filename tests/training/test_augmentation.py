"""Augmentation against scipy, by its stated distributions, and by what image and label have in common."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from coopseg.config.settings import AugmentationSettings
from coopseg.training.augmentation import (
    Augmentation,
    apply_augmentation,
    beyond,
    displacement,
    padded,
    reach,
    sample_augmentation,
    source_points,
)

STILL = AugmentationSettings(
    flip=0, intensity=0, shift=0, rotation=0, zoom=(1, 1), rotate45=0, elastic=0, elastic_sigma=(0.075, 0.15)
)
SIZE = (48, 64)
MARGIN = 40  # of a canvas around a crop, on each side: more than any map of SIZE reaches


def changed(settings: AugmentationSettings, **values: object) -> AugmentationSettings:
    return settings.model_copy(update=values)


def draw(
    settings: AugmentationSettings | None = None,
    *,
    batch: int = 6,
    size: tuple[int, int] = (48, 64),
    seed: int = 0,
) -> Augmentation:
    return sample_augmentation(
        batch, size, settings or AugmentationSettings(), torch.Generator().manual_seed(seed)
    )


def slices(batch: int = 6, size: tuple[int, int] = (48, 64), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth pictures that fill [0, 1] exactly, and blobs of four classes."""
    rng = np.random.default_rng(seed)
    smooth = ndi.gaussian_filter(rng.random((batch, *size)), (0, 3, 3))
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    images = torch.from_numpy(((smooth - low) / (high - low)).astype(np.float32))[:, None]
    labels = torch.from_numpy(
        np.digitize(ndi.gaussian_filter(rng.random((batch, *size)), (0, 5, 5)), [0.48, 0.5, 0.52])
    )
    return images, labels


def everywhere(images: Tensor) -> Tensor:
    """The extent of scans that fill their canvases."""
    rows, columns = images.shape[2:]
    return torch.tensor([[0.0, columns - 1], [0, rows - 1]]).expand(len(images), 2, 2)


def augment(images: Tensor, labels: Tensor, params: Augmentation, **options: Any) -> tuple[Tensor, Tensor]:
    """Canvases that are their own crops, unless `size` says otherwise."""
    options = {"size": tuple(images.shape[2:])} | options
    return apply_augmentation(images, labels, everywhere(images), params, **options)


def slow_affine(
    image: np.ndarray, params: Augmentation, b: int, *, order: int, size: tuple[int, int]
) -> np.ndarray:
    """One canvas through the same flip, shift, rotation, zoom, turn and crop by scipy, homogeneous (x, y)."""

    def about_centre(linear: list[list[float]], shift: tuple[float, float] = (0, 0)) -> np.ndarray:
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = linear, shift
        return matrix

    def rotation(degrees: Tensor) -> np.ndarray:
        angle = math.radians(degrees)
        return about_centre([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    flip, shift, zoom, crop = (
        getattr(params, name)[b].tolist() for name in ("flip", "shift", "zoom", "crop")
    )
    forward = about_centre([[flip[0], 0], [0, flip[1]]])
    forward = about_centre([[1, 0], [0, 1]], (shift[0], shift[1])) @ forward
    forward = rotation(params.angle[b]) @ forward
    forward = about_centre([[1 / zoom[0], 0], [0, 1 / zoom[1]]]) @ forward
    forward = rotation(params.turn[b]) @ forward
    forward = about_centre([[1, 0], [0, 1]], (-crop[0], -crop[1])) @ forward
    to_centre, back = np.eye(3), np.eye(3)
    to_centre[:2, 2] = [-(size[1] - 1) / 2, -(size[0] - 1) / 2]
    back[:2, 2] = [(image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2]
    inverse = back @ np.linalg.inv(forward) @ to_centre
    swap = np.eye(3)[[1, 0, 2]]  # scipy's coordinates are (row, column)
    return np.asarray(
        ndi.affine_transform(image, swap @ inverse @ swap, output_shape=size, order=order, mode="nearest")
    )


def minmax(image: np.ndarray) -> np.ndarray:
    return np.asarray((image - image.min()) / (image.max() - image.min()))


def test_standing_still_changes_nothing() -> None:
    images, labels = slices()
    moved, marked = augment(images, labels, draw(STILL))
    assert torch.equal(marked, labels)
    # a sampling point is off by some 1e-5 pixels in float32: far below one grey level of a scan
    torch.testing.assert_close(moved, images, rtol=0, atol=1e-5)


def test_flips_mirror_the_named_axis() -> None:
    images, labels = slices()
    for pair, dims in (([-1.0, 1.0], (2,)), ([1.0, -1.0], (1,)), ([-1.0, -1.0], (1, 2))):
        params = dataclasses.replace(draw(STILL), flip=torch.tensor([pair] * 6))
        moved, marked = augment(images, labels, params)
        assert torch.equal(marked, labels.flip(dims))
        torch.testing.assert_close(moved[:, 0], images[:, 0].flip(dims), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("angle", "turns"), [(90.0, -1), (180.0, -2), (270.0, -3)])
def test_right_angles_are_those_of_rot90(angle: float, turns: int) -> None:
    """Points move from +x to +y, and rows count downwards: clockwise on screen."""
    images, labels = slices(size=(48, 48))
    params = dataclasses.replace(draw(STILL, size=(48, 48)), turn=torch.full((6,), angle))
    moved, marked = augment(images, labels, params)
    assert torch.equal(marked, labels.rot90(turns, (1, 2)))
    torch.testing.assert_close(moved[:, 0], images[:, 0].rot90(turns, (1, 2)), rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [(48, 64), (50, 37)])
@pytest.mark.parametrize("margin", [0, MARGIN])
def test_affine_part_equals_scipy(size: tuple[int, int], margin: int) -> None:
    """With a margin from the scan itself, without one with its edge repeated."""
    images, labels = slices(16, (size[0] + 2 * margin, size[1] + 2 * margin))
    params = draw(AugmentationSettings(elastic=0, intensity=0, random_crop=True), batch=16, size=size)
    moved, marked = augment(images, labels, params, size=size)
    for b in range(16):
        expected = minmax(slow_affine(images[b, 0].numpy(), params, b, order=1, size=size))
        np.testing.assert_allclose(moved[b, 0], expected, atol=1e-4)
        nearest = slow_affine(labels[b].numpy(), params, b, order=0, size=size)
        assert (marked[b].numpy() != nearest).mean() < 1e-3  # points half-way between two pixels


def test_intensity_acts_before_the_move_about_zero() -> None:
    images, labels = slices()
    params = draw(AugmentationSettings(elastic=0, intensity=1))
    moved, _ = augment(images, labels, params)
    for b, image in enumerate(images[:, 0].numpy()):
        canvas = np.clip(image * float(params.contrast[b]) + float(params.brightness[b]), 0, 1)
        expected = slow_affine(canvas, params, b, order=1, size=SIZE)
        np.testing.assert_allclose(moved[b, 0], minmax(expected), atol=1e-4)


def test_the_edge_is_repeated_only_beyond_the_scan() -> None:
    """A scan of ones in a canvas of zeros: no zero is ever read, and what is beyond is counted."""
    canvas, size = (128, 144), SIZE
    images = torch.zeros(40, 1, *canvas)
    images[:, :, 30:100, 40:110] = 1
    labels = images[:, 0].to(torch.uint8)
    inside = torch.tensor([[40.0, 109], [30, 99]]).expand(40, 2, 2)
    params = draw(AugmentationSettings(intensity=0), batch=40)
    moved, marked = apply_augmentation(images, labels, inside, params, size=size, rescale=False)
    assert (moved > 0.999).all()  # rounding of the interpolation weights
    assert (marked == 1).all()
    zeros = apply_augmentation(images, labels, everywhere(images), params, size=size, rescale=False)[1] == 0
    shares = beyond(params, inside, canvas, size)
    torch.testing.assert_close(shares, zeros.float().mean((1, 2)), rtol=0, atol=2e-3)
    assert shares.mean() > 0.01
    assert not beyond(params, everywhere(images), canvas, size).any()


def test_the_canvas_holds_all_that_the_map_can_read() -> None:
    settings = AugmentationSettings(elastic=0, random_crop=True)
    for size in ((128, 128), (96, 160)):
        rows, columns = reach(size, settings)
        assert (rows - size[0]) % 2 == (columns - size[1]) % 2 == 0
        whole = torch.tensor([[0.0, columns - 1], [0, rows - 1]]).expand(500, 2, 2)
        params = draw(settings, batch=500, size=size)
        assert not beyond(params, whole, (rows, columns), size).any()
    assert reach((128, 128), STILL)[0] >= 128 * math.sqrt(2)
    assert reach((128, 128), changed(STILL, enabled=False)) == (128, 128)


def test_a_heart_grows_by_the_published_areas() -> None:
    """A disc of 5,027 pixels: its area changes by 0.83 to 1.56, each axis by itself."""
    size = (192, 192)
    settings = changed(STILL, zoom=(0.8, 1.1))
    rows, columns = torch.meshgrid(torch.arange(192.0), torch.arange(192.0), indexing="ij")
    disc = ((rows - 95.5).square() + (columns - 95.5).square()).sqrt() < 40
    labels = disc.to(torch.uint8).expand(200, *size)
    params = draw(settings, batch=200, size=size)
    _, marked = augment(labels[:, None].float(), labels, params)
    growth = marked.sum((1, 2)) / disc.sum()
    torch.testing.assert_close(growth, 1 / params.zoom.prod(1), rtol=0.02, atol=0)
    assert 0.82 < growth.min() < 0.9
    assert 1.45 < growth.max() < 1.57
    assert (params.zoom[:, 0] - params.zoom[:, 1]).abs().max() > 0.2


def test_the_elastic_field_is_the_stated_sum_over_cells() -> None:
    params = draw(changed(STILL, elastic=1), batch=2, size=(32, 32))
    field = displacement(params, (32, 32))
    rows, columns = params.noise.shape[2:]
    for b, axis, y, x in ((0, 0, 0, 0), (0, 1, 31, 5), (1, 0, 16, 16), (1, 1, 7, 30)):
        sigma, total = float(params.sigma[b]), 0.0
        for i in range(rows):
            for j in range(columns):
                dy = y - 15.5 - (i - (rows - 1) / 2) * params.cell
                dx = x - 15.5 - (j - (columns - 1) / 2) * params.cell
                weight = (
                    math.exp(-(dx**2 + dy**2) / (2 * sigma**2)) * params.cell**2 / (2 * math.pi * sigma**2)
                )
                total += float(params.noise[b, axis, i, j]) * weight
        expected = float(params.alpha[b]) * total * math.sqrt(1 / 3) / params.cell
        assert float(field[b, axis, y, x]) == pytest.approx(expected, abs=1e-4)


def test_the_elastic_field_has_the_covariance_of_smoothed_pixel_noise() -> None:
    """Uniform noise on every pixel through scipy's Gaussian filter, as published, beside the cells' field."""
    side, sigma, alpha = 60, 8.0, 100.0
    settings = changed(
        STILL,
        elastic=1,
        pad=1.0,
        elastic_sigma=(sigma / side, sigma / side),
        elastic_alpha=(alpha / side,) * 2,
    )
    fast = displacement(draw(settings, batch=600, size=(side, side)), (side, side)).flatten(0, 1).numpy()
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (300, side + 60, side + 60))
    slow = alpha * ndi.gaussian_filter(noise, (0, sigma, sigma), truncate=5)[:, 30:-30, 30:-30]
    for dy, dx in ((0, 0), (0, 8), (8, 0), (12, 12)):
        theory = alpha**2 / 3 / (4 * math.pi * sigma**2) * math.exp(-(dx**2 + dy**2) / (4 * sigma**2))
        for field in (fast, slow):
            covariance = (field[:, dy:, dx:] * field[:, : side - dy, : side - dx]).mean()
            assert covariance == pytest.approx(theory, abs=0.3)  # of 4.1 at no distance
    for place in ((0, 0), (30, 30)):  # as strong at the corner as in the middle
        assert fast[:, place[0], place[1]].std() == pytest.approx(alpha * 0.1629 / sigma, rel=0.07)


def test_the_default_elastic_field_is_visible_but_does_not_fold() -> None:
    params = draw(changed(STILL, elastic=1), batch=100, size=(192, 192))
    field = displacement(params, (192, 192))
    assert 2 < field.square().mean().sqrt() < 4  # pixels
    across, down = field.diff(dim=3)[:, :, :-1], field.diff(dim=2)[..., :-1]
    area = (1 + across[:, 0]) * (1 + down[:, 1]) - across[:, 1] * down[:, 0]
    assert (area > 0).float().mean() > 0.9999


def test_image_and_label_move_together() -> None:
    size = (96, 96)
    labels = torch.zeros(20, *size, dtype=torch.int64)
    labels[:, 30:60, 24:70] = 1
    images = labels[:, None].float()
    moved, marked = augment(images, labels, draw(AugmentationSettings(intensity=0), batch=20, size=size))
    assert torch.equal((moved[:, 0] > 0.99), (moved[:, 0] > 0.99) & (marked == 1))
    assert ((moved[:, 0] > 0.5) != (marked == 1)).float().mean() < 0.005
    assert (marked == 1).flatten(1).sum(1).min() > 500


def test_labels_hold_no_new_values() -> None:
    images, labels = slices(20)
    labels = labels * 37
    _, marked = augment(images, labels, draw(batch=20))
    assert marked.dtype == torch.int64
    assert marked.shape == labels.shape
    assert set(marked.unique().tolist()) <= set(labels.unique().tolist()) | {0}


def test_images_fill_0_to_1_and_constant_ones_become_0() -> None:
    images, labels = slices(40)
    images[0], images[1] = 0, 0.7
    params = draw(changed(AugmentationSettings(), intensity=1), batch=40)
    moved, _ = augment(images, labels, params)
    assert moved.dtype == torch.float32
    assert moved.shape == images.shape
    assert not moved[:2].any()
    assert (moved[2:].amin((1, 2, 3)) == 0).all()
    assert (moved[2:].amax((1, 2, 3)) == 1).all()


def test_the_same_seed_gives_the_same_pictures_and_samples_differ() -> None:
    images, labels = slices()
    images, labels = images[:1].repeat(6, 1, 1, 1), labels[:1].repeat(6, 1, 1)
    first, again, other = (augment(images, labels, draw(seed=seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for b in range(1, 6):
        assert (first[0] - first[b]).abs().mean() > 0.01


def test_autocast_changes_nothing() -> None:
    images, labels = slices()
    moved, marked = augment(images, labels, draw())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = augment(images, labels, draw())
    assert torch.equal(again[0], moved)
    assert torch.equal(again[1], marked)


def test_inputs_are_left_alone() -> None:
    images, labels = slices()
    before = images.clone(), labels.clone()
    augment(images, labels, draw())
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_draws_follow_the_stated_distributions() -> None:
    params = draw(batch=20000, size=(24, 48))
    assert padded((24, 48), AugmentationSettings()) == (28, 56)  # 7/6 at least
    assert (params.flip == -1).float().mean(0).tolist() == pytest.approx([0.2, 0.2], abs=0.02)
    still = (params.contrast == 1) & (params.brightness == 0)
    assert still.float().mean() == pytest.approx(0.5, abs=0.02)
    assert ((params.contrast == 1) == (params.brightness == 0)).float().mean() > 0.999
    assert (params.alpha == 0).float().mean() == pytest.approx(0.5, abs=0.02)
    turns = (params.turn / 45).long().bincount(minlength=8) / 20000
    assert turns.tolist() == pytest.approx([1 / 8] * 8, abs=0.02)
    uniform = {
        "contrast": (params.contrast[~still], 0.8, 1.2),
        "brightness": (params.brightness[~still], -0.1, 0.1),
        "shift x": (params.shift[:, 0], -5.6, 5.6),
        "shift y": (params.shift[:, 1], -2.8, 2.8),
        "rotation": (params.angle, -15, 15),
        "zoom of columns": (params.zoom[:, 0], 0.8, 1.1),
        "zoom of rows": (params.zoom[:, 1], 0.8, 1.1),
        "sigma": (params.sigma, 0.075 * 28, 0.15 * 28),
        "alpha": (params.alpha[params.alpha > 0], 1.5 * 28, 2 * 28),
    }
    for name, (values, low, high) in uniform.items():
        ranks = torch.linspace(low, high, len(values))
        assert (values.sort().values - ranks).abs().max() < 0.03 * (high - low), name


def test_a_random_crop_takes_every_place_in_the_published_canvas_of_224() -> None:
    settings = AugmentationSettings(random_crop=True)
    assert padded((192, 192), settings) == (224, 224)
    crop = draw(settings, batch=3000, size=(192, 192)).crop
    assert sorted(set(crop[:, 0].tolist())) == list(range(-16, 17))
    assert not draw(batch=10, size=(192, 192)).crop.any()


def test_probability_0_turns_an_operation_off() -> None:
    params = draw(STILL, batch=200)
    assert (params.flip == 1).all()
    assert (params.contrast == 1).all()
    assert (params.zoom == 1).all()
    for name in ("brightness", "shift", "angle", "turn", "crop", "alpha"):
        assert not getattr(params, name).any()


def test_to_moves_every_tensor() -> None:
    moved = draw().to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, Tensor)]
    assert len(tensors) == 11
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_nothing_reads_a_value_back_to_the_host() -> None:
    """Tensors on the meta device have no values: reading one raises."""
    x, y = source_points(draw().to("meta"), (48, 64))
    assert x.shape == y.shape == (6, 48, 64)
