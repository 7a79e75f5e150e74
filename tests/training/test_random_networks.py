"""Random networks against scipy and by their stated distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from coopseg.training.random_networks import RandomNetworks, sample_networks, transform


def draw(image: Tensor, seed: int = 0, **shape: int) -> RandomNetworks:
    return sample_networks(image, len(image), torch.Generator().manual_seed(seed), **shape)


def pictures(batch: int = 8, channels: int = 1, size: tuple[int, int] = (14, 18)) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64)


def slow_transform(image: np.ndarray, drawn: RandomNetworks, number: int) -> np.ndarray:
    """One image (C, H, W) through one network."""
    x = image
    for layer, (kernels, biases) in enumerate(zip(drawn.kernels, drawn.biases, strict=True)):
        if layer > 0:
            x = np.where(x > 0, x, 0.01 * x)
        x = np.stack(
            [
                sum(ndi.correlate(plane, k, mode="nearest") for plane, k in zip(x, kernel, strict=True))
                + bias
                for kernel, bias in zip(kernels[number].numpy(), biases[number].numpy(), strict=True)
            ]
        )
    kept = float(drawn.kept[number])
    mixed = kept * image + (1 - kept) * x
    return np.asarray(mixed * np.sqrt((image**2).sum() / (mixed**2).sum()))


@pytest.mark.parametrize("shape", [{}, {"layers": 1}, {"layers": 2, "channels": 5}])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_image_goes_through_a_network_of_its_own(channels: int, shape: dict[str, Any]) -> None:
    image = pictures(channels=channels)
    drawn = draw(image, **shape)
    slow = np.stack([slow_transform(x, drawn, n) for n, x in enumerate(image.numpy())])
    torch.testing.assert_close(transform(image, drawn), torch.from_numpy(slow), rtol=1e-9, atol=1e-12)


def test_the_same_picture_becomes_another_in_every_place() -> None:
    image = pictures(1).expand(12, -1, -1, -1)
    found = transform(image, draw(image))
    assert torch.pdist(found.flatten(1)).min() > 0.1
    torch.testing.assert_close(found.square().sum((1, 2, 3)), image.square().sum((1, 2, 3)))


def test_a_black_image_stays_black() -> None:
    image = torch.zeros(3, 1, 8, 8)
    assert torch.equal(transform(image, draw(image)), image)


def test_the_same_seed_makes_the_same_networks() -> None:
    image = pictures()
    assert torch.equal(transform(image, draw(image, 4)), transform(image, draw(image, 4)))
    assert not torch.equal(transform(image, draw(image, 4)), transform(image, draw(image, 5)))


def test_the_frame_does_not_set_the_range() -> None:
    """A constant image stays constant: nothing comes in from beyond its border."""
    image = torch.full((8, 1, 16, 16), 0.7).double()
    torch.testing.assert_close(transform(image, draw(image)).abs(), image)


def test_networks_are_distributed_as_stated() -> None:
    many = 3000
    drawn = sample_networks(torch.zeros(1, 1, 8, 8), many, torch.Generator().manual_seed(0))
    assert [tuple(k.shape) for k in drawn.kernels] == [
        (many, 2, 1, 3, 3), (many, 2, 2, 3, 3), (many, 2, 2, 3, 3), (many, 1, 2, 3, 3)
    ]  # fmt: skip
    small = []
    for kernels, biases in zip(drawn.kernels, drawn.biases, strict=True):
        middle = kernels[:, :, :, 1:2, 1:2]
        around = (kernels != 0).sum((1, 2, 3, 4)) - (middle != 0).sum((1, 2, 3, 4))
        assert set(around.tolist()) == {0, kernels[0].numel() - middle[0].numel()}
        small.append((around == 0).double())
        for values in (middle, kernels[around > 0], biases):
            assert float(values.mean()) == pytest.approx(0, abs=5 / values.numel() ** 0.5)
            assert float(values.std()) == pytest.approx(1, rel=5 / (2 * values.numel()) ** 0.5)
    assert torch.stack(small).mean(1) == pytest.approx(0.5, abs=5 * 0.5 / many**0.5)
    assert (torch.corrcoef(torch.stack(small)) - torch.eye(4)).abs().max() < 5 / many**0.5
    for share in (0.1, 0.5, 0.9):
        assert float((drawn.kept < share).double().mean()) == pytest.approx(share, abs=5 * 0.5 / many**0.5)
