"""Adversarial noise against an exact Hessian-vector product, bias fields against scipy's splines."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import BSpline
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from coopseg.config.rivals import AdvBiasSettings, AdvNoiseSettings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norms
from coopseg.rivals.adversarial import AdvBias, AdvNoise, bias_field, clean_prediction, normalised
from coopseg.training.losses import divergence, rescale_slices
from coopseg.training.passes import Truth
from coopseg.training.rival import Batch

LIMITS = math.log(0.6), math.log(1.4)


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


def test_the_search_of_noise_leaves_networks_as_they_were(steps: Any) -> None:
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


def test_a_step_with_noise_is_one_graph(steps: Any) -> None:
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


def make_experienced_networks(seed: int) -> Networks:
    """Returns networks with running statistics of some noise."""
    networks = make_networks(seed)
    with torch.no_grad():
        for _ in range(20):
            networks(torch.rand(4, 1, 32, 32, dtype=torch.float64))
    return networks


def draw_points(image: Tensor, seed: int = 0) -> Tensor:
    return AdvBias(AdvBiasSettings()).sample(image, None, torch.Generator().manual_seed(seed))


def test_a_field_is_a_spline_surface_between_the_pixels_of_half_the_resolution() -> None:
    points = draw_points(torch.zeros(2, 1, 32, 48, dtype=torch.float64))
    found = bias_field(points, (32, 48), 0.5)
    knots = 0.5 * np.arange(-3, 6)
    coarse = [(np.arange(side // 2) + 0.5) / (side // 2) for side in (32, 48)]
    for sample in range(2):
        along_rows = BSpline(knots, points[sample, 0].numpy(), 3)(coarse[0])
        surface = np.exp(BSpline(knots, along_rows, 3, axis=1)(coarse[1]))
        for axis, side in enumerate((32, 48)):
            # the middles of the fine pixels, those at the border without a coarse one beyond them
            at = np.clip((np.arange(side) + 0.5) / 2 - 0.5, 0, side // 2 - 1)
            surface = np.apply_along_axis(  # type: ignore[call-overload]
                lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, surface
            )
        np.testing.assert_allclose(found[sample, 0], surface, rtol=1e-12)


def test_fields_stay_in_1_plus_or_minus_epsilon() -> None:
    corners = torch.tensor(LIMITS, dtype=torch.float64)[torch.randint(2, (200, 1, 5, 5))]
    found = bias_field(corners, (32, 32), 0.5)
    assert float(found.min()) >= 0.6 - 1e-12
    assert float(found.max()) <= 1.4 + 1e-12
    for limit, factor in zip(LIMITS, (0.6, 1.4), strict=True):
        flat = bias_field(torch.full((1, 1, 5, 5), limit, dtype=torch.float64), (16, 16), 0.5)
        torch.testing.assert_close(flat, torch.full_like(flat, factor))


def test_the_start_is_uniform_and_a_seed_repeats_it() -> None:
    image = torch.zeros(800, 1, 16, 16)
    drawn = draw_points(image)
    low, high = LIMITS
    assert drawn.shape == (800, 1, 5, 5)
    for share in (0.1, 0.5, 0.9):
        below = float((drawn < low + share * (high - low)).double().mean())
        assert below == pytest.approx(share, abs=5 * 0.5 / drawn.numel() ** 0.5)
    assert torch.equal(drawn, draw_points(image))
    assert not torch.equal(drawn, draw_points(image, 1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_step_has_length_1_along_the_gradient_and_climbs(steps: Any, seed: int) -> None:
    image, networks = steps.make_batch(seed)[0], make_experienced_networks(seed)
    rival, start = AdvBias(AdvBiasSettings()), draw_points(image, seed)
    found = rival.search(image, start, networks)
    networks.eval()

    def distance(points: Tensor) -> Tensor:
        field = bias_field(points, (32, 32), 0.5)
        with torch.no_grad():
            clean = networks.fast(image)
        return rival.distance(clean, networks.fast(rescale_slices(image * field)))

    movable = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(movable), movable)
    for sample in range(4):
        step = gradient[sample] / gradient[sample].norm()
        torch.testing.assert_close(found[sample], (start[sample] + step).clamp(*LIMITS))
        assert step.norm() == pytest.approx(1)
    assert float(distance(found).detach()) > float(distance(start).detach())


def test_the_search_of_a_field_leaves_networks_as_they_were(steps: Any) -> None:
    image, networks = steps.make_batch()[0], make_experienced_networks(0)
    layers = norms(networks)
    layers[0].eval()  # unlike the others
    layers[1].running = True
    modes = [(layer.training, layer.running, layer.record, layer.learn) for layer in layers]
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    AdvBias(AdvBiasSettings()).search(image, draw_points(image), networks)
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name])
    assert modes == [(layer.training, layer.running, layer.record, layer.learn) for layer in layers]
    assert all(parameter.grad is None for parameter in networks.parameters())


def test_bf16_finds_nearly_the_same_field(steps: Any) -> None:
    image, networks = steps.make_batch()[0].float(), make_experienced_networks(0).float()
    rival, start = AdvBias(AdvBiasSettings()), draw_points(image)
    exact = rival.search(image, start, networks)
    with torch.autocast("cpu", torch.bfloat16):
        found = rival.search(image, start, networks)
    assert F.cosine_similarity((found - start).flatten(1), (exact - start).flatten(1)).min() > 0.95


def test_a_step_with_a_field_is_one_graph(steps: Any) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        truth = Truth(image, label)
        found = AdvBias(AdvBiasSettings()).apply(Batch(truth, None, True), drawn, networks).inputs  # type: ignore[arg-type]
        low, high = found.amin((1, 2, 3), keepdim=True), found.amax((1, 2, 3), keepdim=True)
        inputs = (found - low) / (high - low)
        with torch.no_grad():
            clean = networks.fast(image)
        logits = networks.fast(inputs)
        divergence = kl_divergence(*(Categorical(logits=t.movedim(1, -1)) for t in (clean, logits)))
        contours = (edges(clean) - edges(logits)).square().mean()
        ordinary = steps.loss_of_code(networks, networks.image_encoder(inputs), image, label)
        return ordinary + divergence.mean() + 0.5 * contours

    steps.check_against_one_graph("adv-bias", further, records=False, learns=False)


def edges(logits: Tensor) -> Tensor:
    """Sobel edges of the foreground, by shifting."""
    p = F.pad(torch.softmax(logits, 1)[:, 1:], (1, 1, 1, 1))
    down = p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]
    right = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
    return torch.stack([down[..., 2:] - down[..., :-2], right[:, :, 2:] - right[:, :, :-2]])
