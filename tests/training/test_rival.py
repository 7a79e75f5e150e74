"""A method of one's own, in the step with and without latent masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.resolve import register, resolve_settings
from coopseg.config.section import Section
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.networks.norm import norms
from coopseg.training.passes import Passes, Truth
from coopseg.training.rival import Batch, Example, ImageRival
from coopseg.training.step import CooperativeStep, StepChoice

SMALL = {"network.width": 2}


class Gamma(ImageRival):
    """Another contrast."""

    name = "gamma"

    def sample(self, image: Tensor, code: Any, generator: torch.Generator | None) -> Tensor:
        return torch.empty(len(image)).uniform_(0.5, 2, generator=generator).to(image.device)

    def apply(self, batch: Batch, drawn: Any, networks: Any) -> Example:
        return Example(batch.truth.image ** drawn.view(-1, 1, 1, 1), batch.truth)


register("test-gamma", Gamma)


def make_step(method: str, **settings: Any) -> Any:
    found = resolve_settings(method=method, overrides=SMALL | settings)
    torch.manual_seed(0)
    return CooperativeStep(Networks(classes=3, **dict(found.network)).double(), found)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(4, 1, 32, 32, generator=generator, dtype=torch.float64)
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low), torch.randint(0, 3, (4, 32, 32), generator=generator)


def gradients(step: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in step.networks.parameters() if p.grad is not None])


def loss_of(
    networks: Networks, inputs: Tensor, image: Tensor, label: Tensor, *, stn_gradient: bool = True
) -> Tensor:
    """CE(p, y) + ½ MSE(x', x) + CE(C(p), y), in one graph."""
    image_code, shape_code = networks.encode(inputs)
    p = networks.segmentation_decoder(shape_code)
    softened = torch.softmax((p if stn_gradient else p.detach()) / 2, 1)
    return (
        F.cross_entropy(p, label)
        + 0.5 * F.mse_loss(networks.image_decoder(image_code), image)
        + F.cross_entropy(networks.refine(softened), label)
    )


@pytest.mark.parametrize(
    ("method", "flows"), [("test-gamma", False), ("cooperative-no-latent+test-gamma", True)]
)
def test_a_rival_adds_its_hard_pass_once(batch: tuple[Tensor, Tensor], method: str, flows: bool) -> None:
    image, label = batch
    step = make_step(method)
    choice = step.sample(image, torch.Generator().manual_seed(1))
    result = step.backward(image, label, choice)

    plain = make_step(method).networks
    noisy = (image + 0.05 * choice.noise).clamp(0, 1)
    exact = F.one_hot(label, 3).permute(0, 3, 1, 2).double()
    changed = image ** choice.rivals[0].view(-1, 1, 1, 1)
    total = (
        loss_of(plain, noisy, image, label, stn_gradient=flows)
        + F.cross_entropy(plain.refine(exact), label)
        + loss_of(plain, changed, image, label, stn_gradient=flows)
    )
    total.backward()
    assert float(result.losses["total"]) == pytest.approx(float(total.detach()))
    mine = dict(step.networks.named_parameters())
    for name, parameter in plain.named_parameters():
        if mine[name].grad is not None:  # a bias that a norm undoes has none
            torch.testing.assert_close(mine[name].grad, parameter.grad, rtol=1e-8, atol=1e-10)
    assert {"gamma_segmentation", "gamma_reconstruction", "gamma_refined"} < set(result.losses)


def test_a_combination_is_the_sum_of_both(batch: tuple[Tensor, Tensor]) -> None:
    """Latent masks and a rival: the total is that of each without the standard pass, which counts once."""
    image, label = batch
    both = make_step("cooperative+test-gamma")
    choice = both.sample(image, torch.Generator().manual_seed(1))
    found = both.backward(image, label, choice).losses
    alone = make_step("cooperative")
    masks = alone.backward(image, label, StepChoice(choice.noise, choice.image, choice.shape)).losses
    rival = make_step("cooperative-no-latent+test-gamma")
    rivals = rival.backward(image, label, StepChoice(choice.noise, None, None, rivals=choice.rivals)).losses
    none = make_step("cooperative-no-latent")
    standard = none.backward(image, label, StepChoice(choice.noise, None, None)).losses
    expected = masks["total"] + rivals["total"] - standard["total"]
    assert float(found["total"]) == pytest.approx(float(expected))
    torch.testing.assert_close(gradients(both), gradients(alone) + gradients(rival) - gradients(none))


def test_the_same_seed_draws_the_same(batch: tuple[Tensor, Tensor]) -> None:
    image, _ = batch
    step = make_step("test-gamma")
    first, again = (step.sample(image, torch.Generator().manual_seed(5)).rivals[0] for _ in range(2))
    assert torch.equal(first, again)


def test_no_rival_before_the_networks_cooperate(batch: tuple[Tensor, Tensor]) -> None:
    image, label = batch
    step = make_step("test-gamma")
    result = step.backward(image, label, step.sample(image, cooperate=False))
    assert not any(name.startswith("gamma") for name in result.losses)


class Ruled(Gamma):
    """Notes what BatchNorm does while it runs, and runs networks where it makes its image."""

    name = "ruled"

    def __init__(self, norm: str) -> None:
        self.norm = norm  # type: ignore[misc, assignment]
        self.seen: list[tuple[str, set[tuple[bool, bool]]]] = []

    def note(self, where: str, networks: Any) -> None:
        self.seen.append((where, {(layer.record, layer.learn) for layer in norms(networks)}))

    def at_codes(
        self, passes: Passes, truth: Truth, drawn: Any, ledger: Any, z_i: Tensor, read: Any, codes: Any
    ) -> None:
        self.note("at codes", passes.networks)

    def apply(self, batch: Batch, drawn: Any, networks: Any) -> Example:
        networks(batch.truth.image)
        return super().apply(batch, drawn, networks)

    def add(self, passes: Passes, batch: Batch, drawn: Any, ledger: Any) -> None:
        self.note("add", passes.networks)
        super().add(passes, batch, drawn, ledger)


@pytest.mark.parametrize("masks", ["no_update", "shared"])
@pytest.mark.parametrize(
    ("rule", "records", "learns"),
    [
        ("shared", True, True),
        ("no_update", False, True),
        ("frozen", False, False),
        ("recorded", True, False),
    ],
)
def test_a_rival_has_a_norm_rule_of_its_own(
    batch: tuple[Tensor, Tensor], rule: str, records: bool, learns: bool, masks: str
) -> None:
    """Whatever that of the latent masks is, it holds in `at_codes` and `add`, and in nothing else."""
    image, label = batch
    rival = Ruled(rule)
    register("test-ruled", lambda: rival)
    step = make_step("standard+test-ruled", **{"latent.norm": masks})
    choice = step.sample(image, torch.Generator().manual_seed(1))
    step.backward(image, label, choice)
    assert rival.seen == [("at codes", {(records, learns)}), ("add", {(records, learns)})]
    assert all(layer.record and layer.learn for layer in norms(step.networks))

    bare = make_step("standard")
    bare.backward(image, label, StepChoice(choice.noise, None, None))
    if records:  # the hard pass alone, not what runs to make its image
        changed = image ** choice.rivals[0].view(-1, 1, 1, 1)
        loss_of(bare.networks, changed, image, label)
    for one, other in zip(norms(step.networks), norms(bare.networks), strict=True):
        torch.testing.assert_close(one.running_mean, other.running_mean, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(one.running_var, other.running_var, rtol=1e-12, atol=1e-14)
        assert torch.equal(one.weight.grad, other.weight.grad) != learns  # type: ignore[arg-type]


def test_as_published_the_image_decoder_is_left_out_of_the_rule(batch: tuple[Tensor, Tensor]) -> None:
    image, label = batch
    rival = Ruled("published")
    register("test-ruled", lambda: rival)
    step, bare = make_step("test-ruled"), make_step("standard")
    choice = step.sample(image, torch.Generator().manual_seed(1))
    step.backward(image, label, choice)
    bare.backward(image, label, StepChoice(choice.noise, None, None))
    for name in ("image_encoder", "segmentation_decoder", "shape_encoder", "shape_decoder", "image_decoder"):
        pairs = zip(*(norms(getattr(s.networks, name)) for s in (step, bare)), strict=True)
        same = [torch.equal(one.running_mean, other.running_mean) for one, other in pairs]
        assert same == [name != "image_decoder"] * len(same)


def test_the_latent_masks_keep_their_rule_beside_a_rival(batch: tuple[Tensor, Tensor]) -> None:
    """The hard pass of masks leaves the statistics alone; that of the rival, after it, records."""
    image, label = batch
    both, rival = make_step("cooperative+test-gamma"), make_step("cooperative-no-latent+test-gamma")
    choice = both.sample(image, torch.Generator().manual_seed(1))
    both.backward(image, label, choice)
    rival.backward(image, label, StepChoice(choice.noise, None, None, rivals=choice.rivals))
    for one, other in zip(norms(both.networks), norms(rival.networks), strict=True):
        torch.testing.assert_close(one.running_mean, other.running_mean, rtol=1e-12, atol=1e-14)


class LowSettings(Section):
    """Has one setting."""

    low: float = 0.5


class Low(Gamma):
    """A method with settings."""

    name, section = "low", LowSettings


register("test-low", Low)


def test_a_method_of_ones_own_has_settings() -> None:
    assert make_step("test-low").rivals[0].settings == LowSettings()
    assert make_step("standard+test-low", **{"rivals.low.low": 0.7}).rivals[0].settings.low == 0.7
    kept = resolve_settings(method="test-low", overrides={"rivals.low.low": 0.7})
    assert type(kept).checked(kept.model_dump(mode="json")) == kept


@pytest.mark.parametrize(
    ("method", "key", "message"),
    [
        ("test-low", "rivals.low.lov", "setting lov: Extra inputs are not permitted"),
        ("test-low", "rivals.lov.low", "settings for rivals.lov, but the methods in use are called low"),
        ("test-gamma", "rivals.gamma.low", "test-gamma: has no settings, found low; give it a section"),
        ("standard", "rivals.low.low", "unknown setting 'rivals.low.low'"),
        (
            "mixstyle",
            "rivals.mixstile.p",
            "'rivals.mixstile.p', did you mean 'rivals.mixstyle.p'",
        ),
    ],
)
def test_a_setting_that_no_method_has_is_refused(method: str, key: str, message: str) -> None:
    with pytest.raises(CoopsegError, match=message.replace(".", r"\.")):
        make_step(method, **{key: 0.6})
