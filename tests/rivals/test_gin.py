"""Random networks against scipy, by their stated distributions, and in a step."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from coopseg.config.rivals import GinIpaSettings, GinSettings
from coopseg.networks.norm import norm_mode, norms
from coopseg.rivals.gin import Gin, RandomNetworks
from coopseg.rivals.gin_ipa import GinIpa


def draw(image: Tensor, seed: int = 0, **settings) -> RandomNetworks:
    return Gin(GinSettings(**settings)).sample(image, None, torch.Generator().manual_seed(seed))


def pictures(batch: int = 4, channels: int = 1, size: tuple[int, int] = (14, 18)) -> Tensor:
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
    return mixed * np.sqrt((image**2).sum() / (mixed**2).sum())


def slow_copies(image: Tensor, drawn: RandomNetworks) -> Tensor:
    """The first copies of images (B, C, H, W), then the second."""
    repeated = [*image.numpy(), *image.numpy()]
    return torch.from_numpy(np.stack([slow_transform(x, drawn, n) for n, x in enumerate(repeated)]))


@pytest.mark.parametrize("settings", [{}, {"layers": 1}, {"layers": 2, "channels": 5}])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_image_goes_through_two_networks_of_its_own(channels, settings) -> None:
    image = pictures(channels=channels)
    drawn = draw(image, **settings)
    found = Gin(GinSettings(**settings)).copies(image, drawn)
    assert found.shape == (2, *image.shape)
    torch.testing.assert_close(found.flatten(0, 1), slow_copies(image, drawn), rtol=1e-9, atol=1e-12)


def test_the_same_picture_becomes_another_in_every_place() -> None:
    image = pictures(1).expand(6, -1, -1, -1)
    found = Gin(GinSettings()).copies(image, draw(image)).flatten(0, 1)
    assert torch.pdist(found.flatten(1)).min() > 0.1
    torch.testing.assert_close(
        found.square().sum((1, 2, 3)), image.repeat(2, 1, 1, 1).square().sum((1, 2, 3))
    )


def test_a_black_image_stays_black() -> None:
    image = torch.zeros(3, 1, 8, 8)
    assert torch.equal(Gin(GinSettings()).copies(image, draw(image)), torch.zeros(2, 3, 1, 8, 8))


def test_networks_are_distributed_as_stated() -> None:
    many = 3000
    drawn = draw(torch.zeros(many // 2, 1, 8, 8))
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


def test_the_same_seed_makes_the_same_copies() -> None:
    image, gin = pictures(), Gin(GinSettings())
    assert torch.equal(gin.copies(image, draw(image, 4)), gin.copies(image, draw(image, 4)))
    assert not torch.equal(gin.copies(image, draw(image, 4)), gin.copies(image, draw(image, 5)))


def test_the_frame_does_not_set_the_range() -> None:
    """A constant image stays constant: nothing comes in from beyond its border."""
    found = Gin(GinSettings()).copies(torch.full((4, 1, 16, 16), 0.7).double(), draw(pictures()))
    torch.testing.assert_close(found.abs(), torch.full_like(found, 0.7))


def slow_dice(p: Tensor, label: Tensor) -> Tensor:
    """Image by image and class by class."""
    losses = [
        1 - 2 * share[here].sum() / (share.square().sum() + here.sum())
        for shares, marks in zip(p, label, strict=True)
        for share, here in zip(shares, [marks == c for c in range(len(shares))], strict=True)
    ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize(
    ("name", "rival"), [("gin", Gin(GinSettings())), ("gin-ipa", GinIpa(GinIpaSettings()))]
)
def test_a_step_is_one_graph(steps, name, rival) -> None:
    def further(networks, image, label, drawn):
        copies = rival.copies(image, drawn).flatten(0, 1)
        low, high = copies.amin((1, 2, 3), keepdim=True), copies.amax((1, 2, 3), keepdim=True)
        code = networks.image_encoder((copies - low) / (high - low))
        with norm_mode(norms(networks), record=False, learn=True):  # loss_of_code records this pass
            p = torch.softmax(networks.segmentation_decoder(networks.image_encoder.decoupler(code)), 1)
        first, second = (Categorical(probs=part.movedim(1, -1)) for part in (p[:4], p[4:]))
        twice = torch.cat([image, image]), torch.cat([label, label])
        ordinary = steps.loss_of_code(networks, code, *twice)
        return ordinary + slow_dice(p, twice[1]) + 10 / 3 * kl_divergence(first, second).mean()

    steps.check_against_one_graph(name, further, records=True, learns=True)


def test_weights_of_the_terms(steps) -> None:
    image, label = steps.make_batch()
    found = {}
    for weights in ({}, {"dice": 0.0}, {"consistency": 0.0}):
        step = steps.make_step("gin", **weights)
        found[tuple(weights)] = step(
            image, label, step.sample(image, torch.Generator().manual_seed(1))
        ).losses
    losses = found[()]
    assert float(losses["total"] - found[("dice",)]["total"]) == pytest.approx(float(losses["gin_dice"]))
    consistency = float(losses["total"] - found[("consistency",)]["total"])
    assert consistency == pytest.approx(10 / 3 * float(losses["gin_consistency"]))


def test_all_copies_pass_together(steps) -> None:
    image, label = steps.make_batch()
    step, seen = steps.make_step("gin"), []
    step.networks.image_encoder.register_forward_hook(lambda _, inputs, code: seen.append(len(inputs[0])))
    step(image, label, step.sample(image))
    assert seen == [4, 8]
