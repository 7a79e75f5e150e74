"""Masks on other people's networks: equal to what is written by hand, without a leak, or refused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from other_networks import OTHERS, StandIn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from coopseg.errors import CoopsegError
from coopseg.latent import LatentMasks, MaskedFeatures, apply_mask
from coopseg.latent.choice import CHANNEL, DROPOUT, SPATIAL, MaskChoice
from coopseg.latent.features import Levels
from coopseg.networks.cooperative import Networks


def record(features: MaskedFeatures, image: Tensor) -> Tensor:
    """Runs the network, and the gradient of a loss that is no mean of the logits."""
    with features.recorded():
        logits: Tensor = features.network(image)
    logits.logsumexp(1).square().mean().backward()
    return logits


def whole(choice: MaskChoice, scheme: int) -> MaskChoice:
    """The choice that masks everything, and leaves nothing of it."""
    return replace(
        choice,
        scheme=torch.full_like(choice.scheme, scheme),
        fraction=torch.ones_like(choice.fraction),
        channel_factor=torch.zeros_like(choice.channel_factor),
        position_factor=torch.zeros_like(choice.position_factor),
        present=frozenset([scheme]),
    )


@pytest.mark.parametrize("name", OTHERS)
def test_codes_gradients_and_hard_examples_equal_those_written_by_hand(name: str) -> None:
    torch.manual_seed(0)
    other, masks = OTHERS[name](), LatentMasks()
    features = MaskedFeatures(other.network, masks)
    before = {key: value.clone() for key, value in other.network.state_dict().items()}
    logits = record(features, other.image)
    choices = features.sample(torch.Generator().manual_seed(1))
    with features.masked(choices):
        harder = other.network(other.image)
    other.network.load_state_dict(before)  # the standard pass has recorded running statistics

    codes = [code.detach().requires_grad_() for code in other.encode(other.image)]
    by_hand = other.decode(codes)
    torch.testing.assert_close(logits, by_hand)
    gradients = torch.autograd.grad(by_hand.logsumexp(1).square().mean(), codes)
    assert len(features.codes) == len(codes)
    for found, code, gradient, expected in zip(
        features.codes, codes, features.gradients, gradients, strict=True
    ):
        torch.testing.assert_close(found, code)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    built = masks.build_levels(choices, features.codes, features.gradients)
    masked = [apply_mask(code, mask) for code, mask in zip(codes, built, strict=True)]
    torch.testing.assert_close(harder, other.decode(masked), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", [DROPOUT, CHANNEL, SPATIAL])
@pytest.mark.parametrize("name", OTHERS)
def test_nothing_is_read_around_the_masks(name: str, scheme: int) -> None:
    """With everything masked the decoder gives one answer, whatever the image; one unmasked level tells."""
    torch.manual_seed(0)
    other = OTHERS[name]()
    features = MaskedFeatures(other.network, LatentMasks(skip_dead=False))
    record(features, other.image)
    choices = [whole(choice, scheme) for choice in features.sample()]
    images = torch.rand_like(other.image), torch.rand_like(other.image) * 3

    def decoded(kept: int | None) -> list[Tensor]:
        some = [
            replace(choice, fraction=choice.fraction * 0) if level == kept else choice
            for level, choice in enumerate(choices)
        ]
        with features.masked(some):
            return [other.network(image) for image in images]

    assert torch.equal(*decoded(None))
    if scheme != SPATIAL:  # where the deepest level rules over all
        for level in range(len(choices)):
            assert not torch.equal(*decoded(level))


def test_levels_leak_as_they_say() -> None:
    other = OTHERS["MONAI UNet 2-D"]()
    shapes, kinds = {}, get_args(Levels)
    for levels in kinds:
        features = MaskedFeatures(other.network, levels=levels)
        record(features, other.image)
        shapes[levels] = [tuple(code.shape[1:]) for code in features.codes]
    assert shapes == {
        "all": [(16, 4, 4), (8, 4, 4), (4, 8, 8)], "deep": [(16, 4, 4), (8, 4, 4)], "bottleneck": [(16, 4, 4)]
    }  # fmt: skip


def test_a_network_is_as_it_was() -> None:
    network, image = StandIn(), torch.rand(2, 1, 16, 16)
    features = MaskedFeatures(network)
    record(features, image)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with features.masked(features.sample()):
        harder = network(image)
    harder.mean().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    segresnet = OTHERS["MONAI SegResNet 2-D"]()
    record(MaskedFeatures(segresnet.network), segresnet.image)
    assert "decode" not in vars(segresnet.network)


def test_masks_rank_by_another_value_than_the_loss() -> None:
    network, image = StandIn(), torch.rand(2, 1, 16, 16)
    features = MaskedFeatures(network)
    with features.recorded():
        logits = network(image)
    value = (logits * torch.rand_like(logits)).mean()
    features.rank_by(value)
    for code, gradient in zip(features.codes, features.gradients, strict=True):
        assert gradient is not None
        torch.testing.assert_close(gradient, torch.autograd.grad(value, code, retain_graph=True)[0])


def test_outputs_of_named_modules() -> None:
    """Without a decoder to be found: the encoder's last layer, by its name."""
    network = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, 2))
    features = MaskedFeatures(network, LatentMasks(skip_dead=False), at="1")
    image = torch.rand(2, 1, 8, 8)
    record(features, image)
    with features.masked([whole(choice, CHANNEL) for choice in features.sample()]):
        masked = network(image)
    torch.testing.assert_close(masked, network[2](torch.zeros(2, 8, 4, 4)))


class Checkpointed(nn.Module):
    """Runs again within backward."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.within, self.reentrant = StandIn(), reentrant
        self.decoder = self.within.decoder

    def forward(self, image: Tensor) -> Any:
        return checkpoint(self.within, image, use_reentrant=self.reentrant)


class Twice(StandIn):
    """Segments an image and its mirror image in one pass."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) + super().forward(image.flip(-1))


def compiled(network: nn.Module) -> nn.Module:
    found: Any = torch.compile(network, backend="eager")
    assert isinstance(found, nn.Module)
    return found


IMAGE = torch.rand(2, 1, 16, 16)
REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "compiled": (lambda: compiled(StandIn()), {}, "the network: is compiled"),
    "compiled inside": (
        lambda: nn.Sequential(compiled(StandIn())),
        {"at": "0"},
        "0: is compiled",
    ),
    "parallel": (lambda: nn.DataParallel(StandIn()), {}, "is a DataParallel"),
    "checkpointed": (
        lambda: Checkpointed(reentrant=False),
        {},
        "decoder: runs under activation checkpointing",
    ),
    "checkpointed, reentrant": (lambda: Checkpointed(reentrant=True), {}, "activation checkpointing"),
    "twice": (Twice, {}, "decoder: runs twice in one pass"),
    "no decoder": (lambda: nn.Sequential(nn.Conv2d(1, 1, 1)), {}, r"name the modules .* at=\['0'\]"),
    "no such name": (StandIn, {"at": ["encodr"]}, "no such module in the network; the closest are encoder"),
    "no such level": (StandIn, {"levels": "deepest"}, "use all, deep or bottleneck"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_masked_rightly_is_refused(case: str) -> None:
    make, options, message = REFUSED[case]
    with pytest.raises(CoopsegError, match=message):
        record(MaskedFeatures(make(), **options), IMAGE.clone().requires_grad_())


def test_order_of_calls() -> None:
    network = StandIn()
    features = MaskedFeatures(network)
    with pytest.raises(CoopsegError, match="no feature is recorded"):
        features.sample()
    with pytest.raises(CoopsegError, match="without gradient"), features.recorded(), torch.no_grad():
        network(IMAGE)
    with pytest.raises(CoopsegError, match="the network did not run"), features.recorded():
        pass
    with features.recorded():
        network(IMAGE)
    with pytest.raises(CoopsegError, match="no gradient to rank by"), features.masked(features.sample()):
        pass
    record(features, IMAGE)
    with pytest.raises(CoopsegError, match="run the network on the recorded batch"):  # noqa: SIM117
        with features.masked(features.sample()):
            network(IMAGE[:1])


def test_what_was_recorded_is_let_go() -> None:
    """Ranked without a backward pass, so that nothing but the last reference frees the graph."""
    network, seen = Networks(classes=3, width=2, kind="unet"), []
    for _ in range(2):
        features = MaskedFeatures(network)
        with features.recorded():
            loss = network.fast(torch.rand(2, 1, 32, 32)).logsumexp(1).mean()
        features.rank_by(loss)
        seen += [weakref.ref(code) for code in features.codes]
    del loss, features
    gc.collect()
    assert seen
    assert not any(code() is not None for code in seen)
