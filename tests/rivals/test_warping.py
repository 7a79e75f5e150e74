"""One map for images and labels, against scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.ndimage as ndi
import torch

from coopseg.rivals.warping import still_map, warp
from coopseg.training.augmentation import source_points


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images (4, 2, 32, 48) and labels of blobs."""
    noise = np.random.default_rng(0).random((4, 3, 32, 48))
    smooth = ndi.gaussian_filter(noise, (0, 0, 3, 3))
    label = np.digitize(smooth[:, 2], np.quantile(smooth[:, 2], [0.5, 0.8]))
    return torch.from_numpy(smooth[:, :2].copy()), torch.from_numpy(label)


def test_images_and_label_take_one_map() -> None:
    images, label = make_batch()
    still = still_map(images, (3, 4), torch.Generator().manual_seed(0))
    params = replace(
        still,
        angle=torch.tensor([10.0, -170, 90, 45]),
        zoom=torch.tensor([[0.7, 1.4], [1.2, 1.2], [1, 1], [0.8, 1]]),
        flip=torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]),
        alpha=torch.full((4,), 20.0),
    )
    found, marked = warp(images, label, params)
    x, y = source_points(params, (32, 48))
    for b in range(4):
        at = y[b].numpy() + 15.5, x[b].numpy() + 23.5
        for channel in range(2):
            expected = ndi.map_coordinates(images[b, channel].numpy(), at, order=1, mode="nearest")
            np.testing.assert_allclose(found[b, channel], expected, atol=1e-5)
        nearest = ndi.map_coordinates(label[b].numpy(), at, order=0, mode="nearest")
        assert (marked[b].numpy() == nearest).mean() > 0.999  # a point midway may go either way
    assert marked.dtype == torch.int64


def test_a_still_map_moves_nothing() -> None:
    images, label = make_batch()
    found, marked = warp(images, label, still_map(images, (3, 4), None))
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)
    assert torch.equal(marked, label)
