"""MaxStyle: its search against a second version, that it raises the loss, and in a step against one graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.rivals import MaxStyleSettings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norm_mode
from coopseg.rivals.maxstyle import LAYERS, MaxStyle, decode_from, decode_to, decoded_image
from coopseg.training.losses import rescale_slices
from coopseg.training.passes import Codes, Truth
from coopseg.training.rival import Batch

SUBSETS = [layers for count in (1, 2, 3) for layers in combinations(LAYERS, count)]


def draw(image: Tensor, layers: Sequence[str] = LAYERS, seed: int = 0, width: int = 2) -> dict[str, Any]:
    rival = MaxStyle(MaxStyleSettings(p=1))
    drawn = rival.sample(image, (len(image), 8 * width, 2, 2), torch.Generator().manual_seed(seed))
    return {layer: drawn[layer] for layer in layers}


def batch_of(networks: Networks, image: Tensor, label: Tensor) -> Batch:
    with norm_mode(networks, record=False, learn=True), torch.no_grad():
        code = networks.image_encoder(image)
        codes = Codes(code, {}, networks.image_decoder(code), code, {}, code)
    return Batch(Truth(image, label), codes, True)


def slowly(
    features: Tensor, share: Tensor, partner: Tensor, mean_noise: Tensor, deviation_noise: Tensor
) -> Tensor:
    """A layer's style, one sample after another."""
    flat = features.flatten(2)
    mean, deviation = flat.mean(2), (flat.var(2, correction=0) + 1e-6).sqrt()
    far = [(value.var(0, correction=1) + 1e-6).sqrt() for value in (mean, deviation)]
    samples = []
    for n, other in enumerate(partner.tolist()):
        wanted = [
            share[n] * own[n] + (1 - share[n]) * own[other] + noise[n].flatten() * scale
            for own, noise, scale in zip((mean, deviation), (mean_noise, deviation_noise), far, strict=True)
        ]
        normal = (flat[n] - mean[n][:, None]) / deviation[n][:, None]
        samples.append(normal * wanted[1][:, None] + wanted[0][:, None])
    return torch.stack(samples).view_as(features)


def decode_slowly(
    networks: Networks, code: Tensor, parameters: Mapping[str, Sequence[Tensor]], partners: dict[str, Tensor]
) -> Tensor:
    return networks.image_decoder(
        code,
        after=lambda layer, x: (
            slowly(x, parameters[layer][0], partners[layer], *parameters[layer][1:])
            if layer in parameters
            else x
        ),
    )


def search_slowly(
    networks: Networks, code: Tensor, label: Tensor, drawn: Any, *, steps: int, rate: float
) -> Tensor:
    """The whole decoder every time, and Adam (Kingma and Ba 2015, algorithm 1) written out."""
    partners = {layer: made.partner for layer, made in drawn.items()}
    parameters = {
        layer: [made.share.clone(), made.noise.mean.clone(), made.noise.deviation.clone()]
        for layer, made in drawn.items()
    }
    first: dict[str, list[Any]] = {layer: [0.0] * 3 for layer in drawn}
    second: dict[str, list[Any]] = {layer: [0.0] * 3 for layer in drawn}
    for t in range(1, steps + 1):
        leaves = [value.requires_grad_() for values in parameters.values() for value in values]
        x = rescale_slices(decode_slowly(networks, code, parameters, partners))
        loss = F.cross_entropy(networks.fast(x), label)
        gradients = iter(torch.autograd.grad(loss, leaves))
        for layer, values in parameters.items():
            for k, value in enumerate(values):
                g = next(gradients)
                if layer == "out":  # undone by the scaling
                    assert g.abs().max() < 1e-10
                    parameters[layer][k] = value.detach()
                    continue
                first[layer][k] = 0.9 * first[layer][k] + 0.1 * g
                second[layer][k] = 0.999 * second[layer][k] + 0.001 * g**2
                m, v = first[layer][k] / (1 - 0.9**t), second[layer][k] / (1 - 0.999**t)
                parameters[layer][k] = (value + rate * m / (v.sqrt() + 1e-8)).detach()
            values[0] = values[0].detach().clamp(0, 1)
    with torch.no_grad():
        return decode_slowly(networks, code, parameters, partners)


@pytest.mark.parametrize("layers", SUBSETS, ids="-".join)
def test_decodes_as_the_whole_decoder_does(steps: Any, layers: Sequence[str]) -> None:
    image, label = steps.make_batch()
    networks = steps.make_step("maxstyle").networks
    batch, drawn = batch_of(networks, image, label), draw(image, layers)
    found = decode_from(decode_to(layers[0], networks.image_decoder, batch), drawn, networks.image_decoder)
    parameters = {layer: (d.share, d.noise.mean, d.noise.deviation) for layer, d in drawn.items()}
    partners = {layer: d.partner for layer, d in drawn.items()}
    torch.testing.assert_close(found, decode_slowly(networks, batch.codes.image, parameters, partners))


@pytest.mark.parametrize("layers", [("up3", "up4", "out"), ("up4",)], ids="-".join)
def test_searches_as_the_second_version_does(steps: Any, layers: tuple[str, ...]) -> None:
    image, label = steps.make_batch()
    networks = steps.make_step("maxstyle").networks
    batch, drawn = batch_of(networks, image, label), draw(image, layers)
    found = MaxStyle(MaxStyleSettings()).apply(batch, drawn, networks)
    expected = search_slowly(networks, batch.codes.image, label, drawn, steps=5, rate=0.1)
    torch.testing.assert_close(found.inputs, expected, rtol=1e-6, atol=1e-8)
    assert not found.inputs.requires_grad
    assert all(parameter.grad is None for parameter in networks.parameters())


def loss_of(networks: Networks, inputs: Tensor, label: Tensor) -> float:
    with torch.no_grad(), norm_mode(networks, record=False, learn=True):
        return float(F.cross_entropy(networks.fast(rescale_slices(inputs.float())).float(), label))


def test_the_search_raises_the_loss_of_every_seed_and_precision(steps: Any) -> None:
    """After a few steps of training, so that there is something to lose."""
    image, label = steps.make_batch()
    step, image = steps.make_step("maxstyle", width=4, p=0.0), image.float()
    networks = step.networks.float()
    optimiser = torch.optim.Adam(networks.parameters(), 1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        step.backward(image, label, step.sample(image, torch.Generator().manual_seed(0)))
        optimiser.step()
    batch = batch_of(networks, image, label)
    rises = []
    for seed in range(4):
        drawn = draw(image, ("up3", "up4"), seed, width=4)
        with torch.no_grad(), norm_mode(networks, record=False, learn=True):
            fixed = decode_to("up3", networks.image_decoder, batch)
            start = loss_of(networks, decode_from(fixed, drawn, networks.image_decoder), label)
        for half in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                x_hat = MaxStyle(MaxStyleSettings()).apply(batch, drawn, networks).inputs
            rises.append(loss_of(networks, x_hat, label) / start)
    assert min(rises) > 1.005
    assert sum(rises) > 1.015 * len(rises)


def test_shares_stay_between_0_and_1(steps: Any) -> None:
    image, label = steps.make_batch()
    networks = steps.make_step("maxstyle").networks
    batch, drawn = batch_of(networks, image, label), draw(image)
    fixed = decode_to("up3", networks.image_decoder, batch)
    found = MaxStyle(MaxStyleSettings(steps=12)).search(fixed, drawn, batch, networks)
    shares = torch.cat([found[layer].share for layer in ("up3", "up4")])
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert ((shares == 0) | (shares == 1)).any()  # some have come to the end


def test_the_draws(steps: Any) -> None:
    image, _ = steps.make_batch()
    first, again = draw(image, seed=4), draw(image, seed=4)
    half = MaxStyle(MaxStyleSettings(p=0.5)).sample(image, (4, 16, 2, 2), torch.Generator().manual_seed(4))
    assert 0 < len(half) < 3
    for layer, made in (again | half).items():
        assert all(torch.equal(a, b) for a, b in zip(made.parameters, first[layer].parameters, strict=True))
        assert sorted(made.partner.tolist()) == [0, 1, 2, 3]
    assert {layer: made.noise.mean.shape[1] for layer, made in first.items()} == {
        "up3": 2,
        "up4": 2,
        "out": 1,
    }


@pytest.mark.parametrize("layers", [(), ("out",)])
def test_where_there_is_nothing_to_search_no_network_runs(steps: Any, layers: tuple[str, ...]) -> None:
    """Of one channel, the style of the decoded image is undone by the scaling to [0, 1]."""
    image, label = steps.make_batch()
    networks = steps.make_step("maxstyle").networks
    batch = batch_of(networks, image, label)
    calls = []
    for network in networks.modules():
        network.register_forward_hook(lambda *_: calls.append(1))
    x_hat = MaxStyle(MaxStyleSettings()).apply(batch, draw(image, layers), networks).inputs
    assert not calls
    scaled = rescale_slices(decoded_image(batch))
    torch.testing.assert_close(rescale_slices(x_hat), scaled, rtol=1e-9, atol=1e-9)


def test_a_step_is_one_graph(steps: Any) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        code = networks.image_encoder(image_with_noise(image)).detach()
        x_hat = rescale_slices(search_slowly(networks, code, label, drawn, steps=5, rate=0.1))
        return steps.loss_of_code(networks, networks.image_encoder(x_hat), image, label)

    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(4, 1, 32, 32, generator=generator)  # the first draw of the step

    def image_with_noise(image: Tensor) -> Tensor:
        return (image + 0.05 * noise.to(image.dtype)).clamp(0, 1)

    steps.check_against_one_graph("maxstyle", further, records=False, learns=False, p=1.0)
