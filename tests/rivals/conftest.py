"""Steps with a rival in float64, and their loss as one plain graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.resolve import resolve_settings
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norms
from coopseg.training.step import CooperativeStep


def make_step(rival: str, *, width: int = 2, **options: Any) -> Any:
    """A step whose rival has `options` for settings."""
    settings = resolve_settings(method=rival, overrides={"network.width": width})
    own = settings.rivals.of(rival).model_copy(update=options)
    settings = settings.model_copy(
        update={"rivals": settings.rivals.model_copy(update={rival.replace("-", "_"): own})}
    )
    torch.manual_seed(0)
    return CooperativeStep(Networks(classes=3, **dict(settings.network)).double(), settings)


def make_batch(seed: int = 3) -> tuple[Tensor, Tensor]:
    """Discs of two classes on noise: images (4, 1, 32, 32) float64 in [0, 1], labels (4, 32, 32)."""
    generator = torch.Generator().manual_seed(seed)
    centre = 12 + 8 * torch.rand(4, 2, 1, 1, generator=generator)
    y, x = torch.arange(32).view(1, -1, 1) - centre[:, 0], torch.arange(32).view(1, 1, -1) - centre[:, 1]
    distance = (y.square() + x.square()).sqrt()
    label = (distance < 9).long() + (distance < 5).long()
    image = 0.3 * label[:, None] + 0.2 * torch.rand(4, 1, 32, 32, generator=generator)
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return ((image - low) / (high - low)).double(), label


def loss_of_code(networks: Networks, image_code: Tensor, image: Tensor, label: Tensor) -> Tensor:
    """CE(p, y) + ½ MSE(x', x) + CE(C(p), y) from an image code on, no gradient from C into p."""
    p = networks.segmentation_decoder(networks.image_encoder.decoupler(image_code))
    return (
        F.cross_entropy(p, label)
        + 0.5 * F.mse_loss(networks.image_decoder(image_code), image)
        + F.cross_entropy(networks.refine(torch.softmax(p.detach() / 2, 1)), label)
    )


def check_against_one_graph(
    rival: str, further: Callable[..., Tensor], *, records: bool, learns: bool, **options: Any
) -> None:
    """A step against L_std + further(networks, image, label, drawn): total, gradients, running statistics.

    `further` is the rival's term, differentiable. Where the rival does not record, the running statistics
    have to be those of L_std alone; where it does not learn, so do the gradients of the norms.
    """
    image, label = make_batch()
    step = make_step(rival, **options)
    choice = step.sample(image, torch.Generator().manual_seed(1))
    result = step.backward(image, label, choice)

    plain = make_step(rival, **options).networks
    noisy = (image + 0.05 * choice.noise).clamp(0, 1)
    exact = F.one_hot(label, 3).permute(0, 3, 1, 2).double()
    standard = F.cross_entropy(plain.refine(exact), label)
    standard = standard + loss_of_code(plain, plain.image_encoder(noisy), image, label)
    standard.backward()
    with norms_left_alone(plain, statistics=not records, gradients=not learns):
        added = further(plain, image, label, choice.rivals[0])
        added.backward()
    torch.testing.assert_close(result.losses["total"], (standard + added).detach())
    mine = dict(step.networks.named_parameters())
    for name, parameter in plain.named_parameters():
        if mine[name].grad is not None:  # a bias that a norm undoes has none
            torch.testing.assert_close(mine[name].grad, parameter.grad, rtol=1e-7, atol=1e-10)
    found = dict(step.networks.named_buffers())
    for name, statistics in plain.named_buffers():
        torch.testing.assert_close(found[name], statistics, rtol=1e-12, atol=1e-14)


@contextmanager
def norms_left_alone(networks: Networks, *, statistics: bool, gradients: bool) -> Iterator[None]:
    """Put back, after the block, the running statistics and the gradients of the norms, if told so."""
    layers = norms(networks)
    kept = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
    before = [[p.grad if p.grad is None else p.grad.clone() for p in layer.parameters()] for layer in layers]
    yield
    for layer, (mean, variance), were in zip(layers, kept, before, strict=True):
        if statistics:
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
        if gradients:
            for parameter, gradient in zip(layer.parameters(), were, strict=True):
                parameter.grad = gradient


def encode_styled(networks: Networks, image: Tensor, style: Callable[[str, Tensor], Tensor]) -> Tensor:
    """The image code with `style` applied behind every layer."""
    x = image
    for layer in ("stem", "down1", "down2", "down3", "down4", "head"):
        x = style(layer, getattr(networks.image_encoder, layer)(x))
    return x


@pytest.fixture(scope="session")
def steps() -> SimpleNamespace:
    """The functions of this file."""
    functions = make_step, make_batch, loss_of_code, check_against_one_graph, encode_styled
    return SimpleNamespace(**{function.__name__: function for function in functions})
