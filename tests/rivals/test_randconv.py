"""Random convolution against scipy, by its stated distributions, and in a step."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage as ndi
import scipy.special
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from coopseg.config.resolve import resolve_settings
from coopseg.config.rivals import RandConvSettings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norms
from coopseg.rivals.randconv import Convolutions, RandConv, convolve, divergence
from coopseg.training.step import CooperativeStep, StepChoice


def draw(image: Tensor, seed: int = 0, **settings) -> Convolutions:
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
    """log 3 where each believes in a class of its own, with a gradient that is a number."""
    logits = torch.diag(torch.full((3,), 1e4)).view(3, 1, 3, 1, 1).requires_grad_()
    found = divergence(logits)
    found.backward()
    assert float(found.detach()) == pytest.approx(np.log(3))
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kernels", [(), (1, 4)])
def test_kernels_must_have_a_middle(kernels) -> None:
    with pytest.raises(ValidationError, match="kernels must be odd sizes"):
        RandConvSettings(kernels=kernels)


def make_step(method: str, **settings) -> CooperativeStep:
    found = resolve_settings(method=method, overrides={"network.width": 2} | settings)
    torch.manual_seed(0)
    return CooperativeStep(Networks(classes=3, settings=found.network).double(), found)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(4, 1, 32, 32, generator=generator, dtype=torch.float64)
    return image, torch.randint(3, (4, 32, 32), generator=generator)


@pytest.mark.parametrize("network", [{}, {"network.shared_code": True}])
def test_the_step_adds_reconstruction_and_consistency(network) -> None:
    image, label = batch()
    step, without = make_step("randconv", **network), make_step("cooperative-no-latent", **network)
    choice = step.sample(image, torch.Generator().manual_seed(1))
    result = step(image, label, choice)
    bare = without(image, label, StepChoice(choice.noise, None, None))

    plain = make_step("randconv", **network).networks
    copies = convolve(image, choice.rivals[0])
    low, high = copies.amin((2, 3, 4), keepdim=True), copies.amax((2, 3, 4), keepdim=True)
    image_code, shape_code = plain.encode(((copies - low) / (high - low)).flatten(0, 1))
    decoded = plain.image_decoder(image_code).chunk(3)
    p = torch.softmax(plain.segmentation_decoder(shape_code), 1).movedim(1, -1).chunk(3)
    mean = Categorical(probs=sum(p) / 3)
    loss = 0.0
    for k in range(3):
        divergences = kl_divergence(Categorical(probs=p[k]), mean)
        loss = loss + (0.5 * F.mse_loss(decoded[k], image) + 10 * divergences.mean()) / 3
    loss.backward()
    assert float(result.losses["total"]) == pytest.approx(float(bare.losses["total"] + loss.detach()))
    expected, standard = dict(plain.named_parameters()), dict(without.networks.named_parameters())
    for name, parameter in step.networks.named_parameters():
        if parameter.grad is None:  # a bias that a norm undoes
            continue
        hard = expected[name].grad
        total = standard[name].grad if hard is None else standard[name].grad + hard  # None: the STN
        torch.testing.assert_close(parameter.grad, total, rtol=1e-8, atol=1e-10)
    for one, other in zip(norms(step.networks), norms(without.networks), strict=True):
        assert torch.equal(one.running_mean, other.running_mean)


def test_all_copies_pass_together() -> None:
    image, label = batch()
    step = make_step("randconv")
    seen = []
    step.networks.image_encoder.register_forward_hook(lambda _, inputs, code: seen.append(len(inputs[0])))
    step(image, label, step.sample(image))
    assert seen == [4, 12]
