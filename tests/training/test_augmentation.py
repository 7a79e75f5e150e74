"""Augmentation against scipy, by its stated distributions, and by what image and label have in common."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from coopseg.config.settings import AugmentationSettings
from coopseg.training.augmentation import (
    Augmentation,
    apply_augmentation,
    displacement,
    sample_augmentation,
    source_points,
)

STILL = AugmentationSettings(
    flip=0, intensity=0, shift=0, rotation=0, zoom=(1, 1), rotate45=0, elastic=0, elastic_sigma=(0.075, 0.15)
)


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


def slow_affine(image: np.ndarray, params: Augmentation, b: int, *, order: int) -> np.ndarray:
    """One slice (H, W) through the same flip, shift, rotation and zoom by scipy, in homogeneous (x, y)."""

    def about_centre(linear: list[list[float]], shift: tuple[float, float] = (0, 0)) -> np.ndarray:
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = linear, shift
        return matrix

    flip_x, flip_y = params.flip[b].tolist()
    shift_x, shift_y = params.shift[b].tolist()
    angle, zoom = math.radians(params.angle[b]), float(params.zoom[b])
    forward = about_centre([[flip_x, 0], [0, flip_y]])
    forward = about_centre([[1, 0], [0, 1]], (shift_x, shift_y)) @ forward
    forward = (
        about_centre([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) @ forward
    )
    forward = about_centre([[zoom, 0], [0, zoom]]) @ forward
    columns, rows = params.pad
    canvas = np.pad(image, ((rows, rows), (columns, columns)))
    to_centre, back = np.eye(3), np.eye(3)
    to_centre[:2, 2] = [-(canvas.shape[1] - 1) / 2, -(canvas.shape[0] - 1) / 2]
    back[:2, 2] = -to_centre[:2, 2]
    inverse = back @ np.linalg.inv(forward) @ to_centre
    swap = np.eye(3)[[1, 0, 2]]  # scipy's coordinates are (row, column)
    moved = ndi.affine_transform(canvas, swap @ inverse @ swap, order=order, mode="grid-constant")
    return moved[rows : rows + image.shape[0], columns : columns + image.shape[1]]


def minmax(image: np.ndarray) -> np.ndarray:
    return (image - image.min()) / (image.max() - image.min())


def test_standing_still_changes_nothing() -> None:
    images, labels = slices()
    moved, marked = apply_augmentation(images, labels, draw(STILL))
    assert torch.equal(marked, labels)
    # a sampling point is off by some 1e-5 pixels in float32: far below one grey level of a scan
    torch.testing.assert_close(moved, images, rtol=0, atol=1e-5)


def test_flips_mirror_the_named_axis() -> None:
    images, labels = slices()
    for pair, dims in (([-1.0, 1.0], (2,)), ([1.0, -1.0], (1,)), ([-1.0, -1.0], (1, 2))):
        params = dataclasses.replace(draw(STILL), flip=torch.tensor([pair] * 6))
        moved, marked = apply_augmentation(images, labels, params)
        assert torch.equal(marked, labels.flip(dims))
        torch.testing.assert_close(moved[:, 0], images[:, 0].flip(dims), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("angle", "turns"), [(90.0, -1), (180.0, -2), (270.0, -3)])
def test_right_angles_are_those_of_rot90(angle: float, turns: int) -> None:
    """Points move from +x to +y, and rows count downwards: clockwise on screen."""
    images, labels = slices(size=(48, 48))
    params = dataclasses.replace(draw(STILL, size=(48, 48)), angle=torch.full((6,), angle))
    moved, marked = apply_augmentation(images, labels, params)
    assert torch.equal(marked, labels.rot90(turns, (1, 2)))
    torch.testing.assert_close(moved[:, 0], images[:, 0].rot90(turns, (1, 2)), rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [(48, 64), (50, 37)])
def test_affine_part_equals_scipy(size: tuple[int, int]) -> None:
    images, labels = slices(16, size)
    params = draw(AugmentationSettings(elastic=0, intensity=0), batch=16, size=size)
    moved, marked = apply_augmentation(images, labels, params)
    for b in range(16):
        expected = minmax(slow_affine(images[b, 0].numpy(), params, b, order=1))
        np.testing.assert_allclose(moved[b, 0], expected, atol=1e-4)
        nearest = slow_affine(labels[b].numpy(), params, b, order=0)
        assert (marked[b].numpy() != nearest).mean() < 1e-3  # points half-way between two pixels


def test_intensity_acts_before_the_move_on_the_padded_slice() -> None:
    images, labels = slices()
    params = draw(AugmentationSettings(elastic=0, intensity=1))
    moved, _ = apply_augmentation(images, labels, params)
    columns, rows = params.pad
    for b, image in enumerate(images[:, 0].numpy()):
        contrast, brightness = float(params.contrast[b]), float(params.brightness[b])
        canvas = np.pad(image, ((rows, rows), (columns, columns)))
        canvas = np.clip((canvas - image.mean()) * contrast + image.mean() + brightness, 0, 1)
        whole = dataclasses.replace(params, pad=(0, 0))
        expected = slow_affine(canvas, whole, b, order=1)[rows:-rows, columns:-columns]
        np.testing.assert_allclose(moved[b, 0], minmax(expected), atol=1e-4)


def test_the_elastic_field_is_the_stated_sum_over_cells() -> None:
    params = draw(changed(STILL, elastic=1), batch=2, size=(32, 32))
    field = displacement(params, torch.Size((32, 32)))
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
    fast = (
        displacement(draw(settings, batch=600, size=(side, side)), torch.Size((side, side)))
        .flatten(0, 1)
        .numpy()
    )
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
    field = displacement(params, torch.Size((192, 192)))
    assert 2 < field.square().mean().sqrt() < 4  # pixels
    across, down = field.diff(dim=3)[:, :, :-1], field.diff(dim=2)[..., :-1]
    area = (1 + across[:, 0]) * (1 + down[:, 1]) - across[:, 1] * down[:, 0]
    assert (area > 0).float().mean() > 0.9999


def test_image_and_label_move_together() -> None:
    size = (96, 96)
    labels = torch.zeros(20, *size, dtype=torch.int64)
    labels[:, 30:60, 24:70] = 1
    images = labels[:, None].float()
    moved, marked = apply_augmentation(
        images, labels, draw(AugmentationSettings(intensity=0), batch=20, size=size)
    )
    assert torch.equal((moved[:, 0] > 0.99), (moved[:, 0] > 0.99) & (marked == 1))
    assert ((moved[:, 0] > 0.5) != (marked == 1)).float().mean() < 0.005
    assert (marked == 1).flatten(1).sum(1).min() > 500


def test_labels_hold_no_new_values() -> None:
    images, labels = slices(20)
    labels = labels * 37
    _, marked = apply_augmentation(images, labels, draw(batch=20))
    assert marked.dtype == torch.int64
    assert marked.shape == labels.shape
    assert set(marked.unique().tolist()) <= set(labels.unique().tolist()) | {0}


def test_images_fill_0_to_1_and_constant_ones_become_0() -> None:
    images, labels = slices(40)
    images[0], images[1] = 0, 0.7
    params = draw(changed(AugmentationSettings(), intensity=1), batch=40)
    moved, _ = apply_augmentation(images, labels, params)
    assert moved.dtype == torch.float32
    assert moved.shape == images.shape
    assert not moved[:2].any()
    assert (moved[2:].amin((1, 2, 3)) == 0).all()
    assert (moved[2:].amax((1, 2, 3)) == 1).all()


def test_the_same_seed_gives_the_same_pictures_and_samples_differ() -> None:
    images, labels = slices()
    images, labels = images[:1].repeat(6, 1, 1, 1), labels[:1].repeat(6, 1, 1)
    first, again, other = (apply_augmentation(images, labels, draw(seed=seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for b in range(1, 6):
        assert (first[0] - first[b]).abs().mean() > 0.01


def test_autocast_changes_nothing() -> None:
    images, labels = slices()
    moved, marked = apply_augmentation(images, labels, draw())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = apply_augmentation(images, labels, draw())
    assert torch.equal(again[0], moved)
    assert torch.equal(again[1], marked)


def test_inputs_are_left_alone() -> None:
    images, labels = slices()
    before = images.clone(), labels.clone()
    apply_augmentation(images, labels, draw())
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_draws_follow_the_stated_distributions() -> None:
    params = draw(batch=20000, size=(24, 48))
    assert params.pad == (4, 2)  # at least 7/6: 48 to 56, 24 to 28
    assert (params.flip == -1).float().mean(0).tolist() == pytest.approx([0.2, 0.2], abs=0.02)
    still = (params.contrast == 1) & (params.brightness == 0)
    assert still.float().mean() == pytest.approx(0.5, abs=0.02)
    assert ((params.contrast == 1) == (params.brightness == 0)).float().mean() > 0.999
    assert (params.alpha == 0).float().mean() == pytest.approx(0.5, abs=0.02)
    turns = ((params.angle + 15) / 45).floor().long().bincount(minlength=8) / 20000
    assert turns.tolist() == pytest.approx([1 / 8] * 8, abs=0.02)
    uniform = {
        "contrast": (params.contrast[~still], 0.8, 1.2),
        "brightness": (params.brightness[~still], -0.1, 0.1),
        "shift x": (params.shift[:, 0], -5.6, 5.6),
        "shift y": (params.shift[:, 1], -2.8, 2.8),
        "rotation": ((params.angle + 15) % 45 - 15, -15, 15),
        "zoom": (params.zoom, 0.8, 1.1),
        "sigma": (params.sigma, 0.075 * 28, 0.15 * 28),
        "alpha": (params.alpha[params.alpha > 0], 1.5 * 28, 2 * 28),
    }
    for name, (values, low, high) in uniform.items():
        ranks = torch.linspace(low, high, len(values))
        assert (values.sort().values - ranks).abs().max() < 0.03 * (high - low), name


def test_the_published_canvas_is_224() -> None:
    assert draw(batch=1, size=(192, 192)).pad == (16, 16)


def test_probability_0_turns_an_operation_off() -> None:
    params = draw(STILL, batch=200)
    assert (params.flip == 1).all()
    assert (params.contrast == 1).all()
    assert (params.zoom == 1).all()
    for name in ("brightness", "shift", "angle", "alpha"):
        assert not getattr(params, name).any()


def test_to_moves_every_tensor() -> None:
    moved = draw().to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, Tensor)]
    assert len(tensors) == 9
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_nothing_reads_a_value_back_to_the_host() -> None:
    """Tensors on the meta device have no values: reading one raises."""
    x, y = source_points(draw().to("meta"), torch.Size((48, 64)))
    assert x.shape == y.shape == (6, 48, 64)
