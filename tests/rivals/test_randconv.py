"""Random convolution against scipy, by its stated distributions, and in a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import scipy.special
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from coopseg.config.rivals import RandConvSettings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norm_mode
from coopseg.rivals.randconv import Convolutions, RandConv, convolve, divergence


def draw(image: Tensor, seed: int = 0, **settings: Any) -> Convolutions:
    return RandConv(RandConvSettings(**settings)).sample(image, None, torch.Generator().manual_seed(seed))


def sides(drawn: Convolutions) -> Tensor:
    """(K,) the side of each kernel: how many columns hold anything."""
    return (drawn.kernels != 0).flatten(1, 3).any(1).sum(1)


def test_convolves_as_scipy_does() -> None:
    image = torch.rand(3, 2, 16, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = draw(image, copies=12)
    assert set(sides(drawn).tolist()) == {1, 3, 5, 7}
    found = convolve(image, drawn)
    for k, side in enumerate(sides(drawn).tolist()):
        trim = slice((7 - side) // 2, 7 - (7 - side) // 2)
        small = drawn.kernels[k, :, :, trim, trim].numpy()
        for b in range(3):
            for out in range(2):
                parts = [ndi.correlate(image[b, c].numpy(), small[out, c], mode="constant") for c in (0, 1)]
                kept = float(drawn.kept[k])
                expected = kept * image[b, out].numpy() + (1 - kept) * np.sum(parts, 0)
                np.testing.assert_allclose(found[k, b, out], expected, rtol=1e-10, atol=1e-12)


def test_kernels_are_distributed_as_stated() -> None:
    drawn = draw(torch.zeros(1, 2, 16, 16), copies=4000)
    found = sides(drawn)
    for side in (1, 3, 5, 7):
        share = float((found == side).float().mean())
        assert share == pytest.approx(1 / 4, abs=5 * (3 / 16 / 4000) ** 0.5)
        weights = drawn.kernels[found == side]
        weights = weights[weights != 0]
        deviation = (2 * side**2) ** -0.5
        assert len(weights) == int((found == side).sum()) * 4 * side**2
        assert float(weights.std()) == pytest.approx(deviation, rel=5 / (2 * len(weights)) ** 0.5)
        assert float(weights.mean()) == pytest.approx(0, abs=5 * deviation / len(weights) ** 0.5)
    for share in (0.1, 0.5, 0.9):
        assert float((drawn.kept < share).float().mean()) == pytest.approx(share, abs=0.04)


def test_without_mixing_nothing_is_kept() -> None:
    drawn = draw(torch.zeros(1, 1, 16, 16), mix=False)
    assert (drawn.kept == 0).all()
    assert torch.equal(drawn.kernels, draw(torch.zeros(1, 1, 16, 16)).kernels)


def test_the_same_seed_makes_the_same_copies() -> None:
    image = torch.rand(2, 1, 16, 16)
    assert torch.equal(convolve(image, draw(image, 4)), convolve(image, draw(image, 4)))
    assert not torch.equal(convolve(image, draw(image, 4)), convolve(image, draw(image, 5)))


def test_divergence_is_the_mean_over_copies_and_pixels() -> None:
    logits = 3 * torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = scipy.special.softmax(logits.numpy(), 2)
    mean = p.mean(0)
    pixels = [
        sum(scipy.special.rel_entr(p[k, b, c, row, column], mean[b, c, row, column]) for c in range(4))
        for k in range(3)
        for b in range(2)
        for row in range(5)
        for column in range(6)
    ]
    assert float(divergence(logits)) == pytest.approx(np.mean(pixels), rel=1e-12)
    assert float(divergence(logits[:1].expand(3, -1, -1, -1, -1))) == pytest.approx(0, abs=1e-12)


def test_divergence_of_certain_copies_is_finite() -> None:
    """It is log 3 where each believes in a class of its own, with a gradient that is a number."""
    logits = torch.diag(torch.full((3,), 1e4)).view(3, 1, 3, 1, 1).requires_grad_()
    found = divergence(logits)
    found.backward()
    assert float(found.detach()) == pytest.approx(np.log(3))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kernels", [(), (1, 4)])
def test_kernels_must_have_a_middle(kernels: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="kernels must be odd sizes"):
        RandConvSettings(kernels=kernels)


def one_by_one(image: Tensor, drawn: Convolutions) -> list[Tensor]:
    """The copies, scaled to [0, 1] per slice."""
    copies = convolve(image, drawn)
    low, high = copies.amin((2, 3, 4), keepdim=True), copies.amax((2, 3, 4), keepdim=True)
    return list((copies - low) / (high - low))


def mean_divergence(logits: list[Tensor]) -> Tensor:
    """By torch.distributions, differentiable through the mean too."""
    p = [torch.softmax(copy, 1).movedim(1, -1) for copy in logits]
    mean = Categorical(probs=torch.stack(p).mean(0))
    return torch.stack([kl_divergence(Categorical(probs=copy), mean).mean() for copy in p]).mean()


@pytest.mark.parametrize("settings", [{}, {"copies": 4, "consistency": 10.0}])
def test_a_step_of_the_authors_is_one_graph(steps: Any, settings: dict[str, Any]) -> None:
    """CE and MSE of the first copy, λ KL over all, in as many forward passes; all of them recorded."""

    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        first, *others = one_by_one(image, drawn)
        logits = [networks.fast(copy) for copy in others]
        image_code = networks.image_encoder(first)
        ordinary = steps.loss_of_code(networks, image_code, image, label)
        with norm_mode(networks, record=False, learn=True):  # the same pass again
            logits.append(networks.segmentation_decoder(networks.image_encoder.shape_code(image_code)))
        return ordinary + settings.get("consistency", 1) * mean_divergence(logits)

    steps.check_against_one_graph("randconv", further, records=True, learns=True, **settings)


def test_a_step_of_the_successor_is_one_graph(steps: Any) -> None:
    """½ MSE and 10 KL, both means over three copies and passes; recorded, but norms take no gradient."""

    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        codes = [networks.encode(copy) for copy in one_by_one(image, drawn)]
        restored = sum(F.mse_loss(networks.image_decoder(z_i), image) for z_i, _ in codes) / 3
        logits = [networks.segmentation_decoder(z_s) for _, z_s in codes]
        return 0.5 * restored + 10 * mean_divergence(logits)

    steps.check_against_one_graph("randconv-successor", further, records=True, learns=False)


@pytest.mark.parametrize("row", ["randconv", "randconv-successor"])
def test_every_copy_has_a_pass_and_a_divergence_of_its_own(steps: Any, row: str) -> None:
    """By common batch statistics the divergence would be another, which one graph could not tell."""
    image, label = steps.make_batch()
    step = steps.make_step(row, width=4)
    seen = []
    step.networks.image_encoder.register_forward_hook(lambda _, inputs, code: seen.append(len(inputs[0])))
    choice = step.sample(image, torch.Generator().manual_seed(1))
    losses = step.backward(image, label, choice).losses
    assert seen == [4, 4, 4, 4]
    plain = steps.make_step(row, width=4).networks
    copies = one_by_one(image, choice.rivals[0])
    apart = float(mean_divergence([plain.fast(copy) for copy in copies]).detach())
    together = float(mean_divergence(list(plain.fast(torch.cat(copies)).chunk(3))).detach())
    assert float(losses[row.replace("-", "_") + "_consistency"]) == pytest.approx(apart)
    assert together != pytest.approx(apart, rel=0.05)
