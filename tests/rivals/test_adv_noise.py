"""Adversarial noise: its direction against an exact Hessian-vector product, its size, its step."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from coopseg.config.rivals import AdvNoiseSettings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norms
from coopseg.rivals.adv_noise import AdvNoise, clean_prediction, normalised
from coopseg.training.losses import divergence
from coopseg.training.passes import Truth
from coopseg.training.rival import Batch


def make_networks(seed: int) -> Networks:
    torch.manual_seed(seed)
    return Networks(classes=3, width=4).double()


def make(image: Tensor, networks: Networks, seed: int = 0, **settings: Any) -> Tensor:
    """The image with its noise."""
    rival = AdvNoise(AdvNoiseSettings(**settings))
    drawn = rival.sample(image, None, torch.Generator().manual_seed(seed))
    truth = Truth(image, image[:, 0].long())
    return rival.apply(Batch(truth, None, True), drawn, networks).inputs  # type: ignore[arg-type]


def middle(image: Tensor) -> Tensor:
    """The image with nothing near the ends of its range but one pixel at either."""
    image = 0.3 + 0.4 * image
    image[:, :, 0, :2] = torch.tensor([0.0, 1.0], dtype=image.dtype)
    return image


def cosines(one: Tensor, other: Tensor) -> Tensor:
    return F.cosine_similarity(one.flatten(1).double(), other.flatten(1).double())


def exact_direction(networks: Networks, image: Tensor, start: Tensor) -> Tensor:
    """The Hessian of the divergence at no noise, times `start`, by differentiating twice."""
    noise = torch.zeros_like(image).requires_grad_()
    loss = divergence(clean_prediction(networks, image), networks.fast(image + noise))
    (gradient,) = torch.autograd.grad(loss, noise, create_graph=True)
    return torch.autograd.grad((gradient * start).sum(), noise)[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_float32_finds_the_exact_direction_where_the_published_step_does_not(steps: Any, seed: int) -> None:
    image, networks = middle(steps.make_batch(seed)[0]), make_networks(seed)
    start = AdvNoise(AdvNoiseSettings()).sample(image, None, torch.Generator().manual_seed(0))
    exact = exact_direction(networks, image, start)
    single = copy.deepcopy(networks).float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    narrow = image.float().contiguous(memory_format=torch.channels_last)
    found, published = (make(narrow, single, probe=probe) - narrow for probe in (0.01, 1e-6))
    assert cosines(found, exact).min() > 0.9
    assert cosines(published, exact).mean() < cosines(found, exact).mean() - 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_raises_the_divergence_more_than_random_noise_of_its_length(steps: Any, seed: int) -> None:
    image, networks = middle(steps.make_batch(seed)[0]), make_networks(seed)
    clean = clean_prediction(networks, image)
    start = AdvNoise(AdvNoiseSettings()).sample(image, None, torch.Generator().manual_seed(0))

    def raised(inputs: Tensor) -> float:
        return float(divergence(clean, clean_prediction(networks, inputs)))

    random, once, twice = (
        image + 0.1 * start,
        make(image, networks),
        make(image, networks, steps=2),
    )
    assert raised(once) > 1.5 * raised(random)
    assert raised(twice) > raised(once)


def test_the_length_is_absolute_or_a_fraction_of_the_images(steps: Any) -> None:
    image, networks = middle(steps.make_batch()[0]), make_networks(0)
    ends = torch.zeros_like(image)
    ends[:, :, 0, :2] = 1
    for settings, wanted in (({}, 0.1), ({"relative": True}, 0.1 * image.flatten(1).norm(dim=1))):
        noise = make(image, networks, **settings) - image
        inside = (noise * (1 - ends)).flatten(1).norm(dim=1)
        assert (inside <= wanted + 1e-12).all()
        assert (inside > 0.97 * wanted).all()


def test_it_stays_within_the_range_of_each_image(steps: Any) -> None:
    image, networks = steps.make_batch()[0] * 0.8, make_networks(0)
    found = make(image, networks, epsilon=20)
    for before, after in zip(image, found, strict=True):
        assert float(after.min()) == float(before.min())
        assert float(after.max()) == float(before.max())


def test_the_same_seed_makes_the_same_noise_from_directions_of_length_1(steps: Any) -> None:
    image, networks = steps.make_batch()[0], make_networks(0)
    assert torch.equal(make(image, networks, 4), make(image, networks, 4))
    assert not torch.equal(make(image, networks, 4), make(image, networks, 5))
    drawn = AdvNoise(AdvNoiseSettings()).sample(torch.zeros(50, 1, 16, 16), None, None)
    torch.testing.assert_close(drawn.flatten(1).norm(dim=1), torch.ones(50))
    assert abs(float(drawn.mean())) < 5 / 16 / drawn.numel() ** 0.5


def test_normalising_bears_gradients_whose_squares_vanish() -> None:
    image = torch.stack([torch.full((1, 4, 4), 1e-30), torch.zeros(1, 4, 4)])
    torch.testing.assert_close(normalised(image)[0], torch.full((1, 4, 4), 0.25))
    assert (normalised(image)[1] == 0).all()


def test_the_search_leaves_networks_as_they_were(steps: Any) -> None:
    image, networks = steps.make_batch()[0], make_networks(0)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    make(image, networks)
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in networks.parameters())
    assert all(layer.record and layer.learn for layer in norms(networks))


def test_search_and_hard_pass_are_not_rounded(steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image, label = (t.float() if t.is_floating_point() else t for t in steps.make_batch())
    step = steps.make_step("adv-noise")
    step.networks.float()
    choice = step.sample(image, torch.Generator().manual_seed(1))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []
    step.networks.image_encoder.register_forward_hook(
        lambda _, inputs, code: seen.append((code.dtype, torch.backends.cudnn.allow_tf32))
    )
    with torch.autocast("cpu", torch.bfloat16):
        step.backward(image, label, choice)
    assert seen == [(torch.bfloat16, True)] + 3 * [(torch.float32, False)]
    assert torch.backends.cudnn.allow_tf32


def test_a_step_is_one_graph(steps: Any) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        truth = Truth(image, label)
        inputs = AdvNoise(AdvNoiseSettings()).apply(Batch(truth, None, True), drawn, networks).inputs  # type: ignore[arg-type]
        with torch.no_grad():
            clean = Categorical(logits=networks.fast(image).movedim(1, -1))
        found = Categorical(logits=networks.fast(inputs).movedim(1, -1))
        ordinary = steps.loss_of_code(networks, networks.image_encoder(inputs), image, label)
        return ordinary + kl_divergence(clean, found).mean()

    steps.check_against_one_graph("adv-noise", further, records=False, learns=False)


def test_the_clean_prediction_leaves_no_trace(steps: Any) -> None:
    networks, (image, _) = steps.make_step("adv-noise").networks, steps.make_batch()
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    found = clean_prediction(networks, image)
    assert not found.requires_grad
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name])
    torch.testing.assert_close(found, training_prediction(networks, image))


def training_prediction(networks: Networks, image: Tensor) -> Tensor:
    """By the batch's statistics, whatever it records."""
    return networks.train()(image)["FTN"].detach()
