"""The step against the golden values and against one plain graph."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rings import rings
from safetensors.torch import load_file
from torch import Tensor, nn

from coopseg.config.settings import LatentSettings, LossSettings, NetworkSettings, Settings
from coopseg.latent.choice import CHANNEL, DROPOUT, SPATIAL, MaskChoice
from coopseg.latent.masks import LatentMasks, build_mask
from coopseg.networks.cooperative import NETWORKS, Networks
from coopseg.networks.norm import norms
from coopseg.training.label_damage import damage_labels
from coopseg.training.step import CooperativeStep, StepChoice, StepResult


def choice_of(
    scheme: int,
    fraction: float,
    *,
    batch: int = 3,
    channels: int = 32,
    positions: int = 9,
    factor: float = 0.0,
) -> Any:
    """A choice with nothing random in it; a factor of 0 makes hard masks."""
    return MaskChoice(
        scheme=torch.full((batch,), scheme),
        fraction=torch.full((batch,), fraction),
        priority=torch.linspace(0, 0.9, batch * channels).reshape(batch, channels),
        channel_factor=torch.full((batch, channels), factor),
        position_factor=torch.full((batch, positions), factor),
        present=frozenset({scheme}),
    )


def build(
    latent: LatentSettings | None = None, losses: LossSettings | None = None, width: int = 4, **network: Any
) -> Any:
    """A step, whose networks are used here as the module that they are."""
    chosen = NetworkSettings(width=width, **network)
    losses = losses or LossSettings()
    settings = Settings(network=chosen, latent=latent or LatentSettings(), losses=losses)
    torch.manual_seed(1)
    return CooperativeStep(Networks(classes=4, **dict(chosen)), settings)


def gradient_of(module: torch.nn.Module) -> torch.Tensor:
    """All there is; a bias that a norm undoes has none."""
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def gradient_norms(networks: Networks, *, with_norms: bool) -> dict[str, float]:
    result = {}
    for name in NETWORKS:
        skipped = (
            set()
            if with_norms
            else {id(p) for layer in norms(getattr(networks, name)) for p in layer.parameters()}
        )
        gradients = [p.grad for p in getattr(networks, name).parameters() if id(p) not in skipped]
        result[name] = float(torch.cat([g.flatten() for g in gradients if g is not None]).norm())
    return result


@pytest.fixture
def tensors(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "tensors.safetensors")


@pytest.fixture
def expected(golden: Path) -> Any:
    return json.loads((golden / "losses.json").read_text())


def golden_step(
    golden: Path, tensors: dict[str, Tensor], latent: LatentSettings, losses: LossSettings | None = None
) -> tuple[Any, StepChoice]:
    step = build(latent, losses)
    step.networks.load_state_dict(load_file(golden / "weights.safetensors"))
    noise = (tensors["noisy_image"] - tensors["image"]) / 0.05  # the step adds and clamps again
    return step, StepChoice(noise, choice_of(CHANNEL, 0.25), choice_of(SPATIAL, 0.5))


PUBLISHED = LatentSettings(norm="published", ties="strict", skip_dead=False, soft=False, scope="batch")


def test_golden_standard_pass(golden: Path, tensors: dict[str, Tensor], expected: Any) -> None:
    step, choice = golden_step(golden, tensors, PUBLISHED.model_copy(update={"image": False, "shape": False}))
    result = step.backward(tensors["image"], tensors["label"], StepChoice(choice.noise, None, None))
    found, golden_losses = result.losses, expected["losses"]
    assert float(found["segmentation"]) == pytest.approx(golden_losses["segmentation"], rel=1e-4)
    assert float(found["reconstruction"]) / 2 == pytest.approx(golden_losses["reconstruction"], rel=1e-4)
    assert float(found["refined"]) == pytest.approx(golden_losses["shape_of_prediction"], rel=1e-4)
    assert float(found["shape"]) == pytest.approx(golden_losses["shape_of_label"], rel=1e-4)
    assert float(found["total"]) == pytest.approx(expected["sum"], rel=1e-4)
    assert gradient_norms(step.networks, with_norms=True) == pytest.approx(
        expected["gradient_l2_norm"], rel=1e-4
    )


def test_golden_step(golden: Path, tensors: dict[str, Tensor], expected: Any) -> None:
    step, choice = golden_step(golden, tensors, PUBLISHED)
    result = step.backward(tensors["image"], tensors["label"], choice)
    for found, name in ((result.x_hat, "hard.x_hat"), (result.p_hat, "hard.p_hat")):
        assert (found - tensors[name]).abs().max() <= 1e-4 * tensors[name].abs().max()
    hard = expected["hard"]["losses"]
    assert float(result.losses["hard_segmentation"]) == pytest.approx(hard["segmentation"], rel=1e-4)
    assert float(result.losses["hard_reconstruction"]) / 2 == pytest.approx(hard["reconstruction"], rel=1e-4)
    assert float(result.losses["hard_refined"]) == pytest.approx(hard["shape_of_prediction"], rel=1e-4)
    assert float(result.losses["hard_shape"]) == pytest.approx(
        hard["shape_of_corrupted_segmentation"], rel=1e-4
    )
    # Moving x̂ by one rounding error (1e-6) changes these norms by 4e-3: of the 27 values a code channel
    # has here, some lie at the kink of the ReLU. The exact check is the one against a single graph.
    found = gradient_norms(step.networks, with_norms=False)
    assert found == pytest.approx(expected["step"]["gradient_l2_norm_without_norm_layers"], rel=5e-3)


def one_graph(
    step: CooperativeStep, image: Tensor, label: Tensor, choice: StepChoice, x_hat: Tensor, p_hat: Tensor
) -> Tensor:
    """The same loss as one differentiable expression, from the equations of the paper."""
    nets, weights = step.networks, step.settings.losses
    noisy = (image + weights.input_noise * choice.noise).clamp(0, 1)

    def stn(inputs: Tensor) -> Tensor:
        """On every n-th of the first images, as many as there are inputs."""
        some = slice(0, len(inputs), weights.stn_every)
        return F.cross_entropy(nets.refine(inputs[some]), label[some])

    def ftn(inputs: Tensor) -> Tensor:
        n = len(inputs)
        z_i, *read = nets.encode(inputs)
        p = nets.segmentation_decoder(*read)
        seen = p if choice.joint and not weights.separate else p.detach()
        terms = F.cross_entropy(p, label[:n])
        if weights.reconstruction:
            terms = terms + weights.reconstruction * F.mse_loss(nets.image_decoder(z_i), image[:n])
        return terms + stn(torch.softmax(seen / 2, 1))

    shown = label.clone()
    if choice.damage is not None:
        shown[:: weights.stn_every] = damage_labels(label[:: weights.stn_every], choice.damage)
    loss = ftn(noisy) + stn(F.one_hot(shown, 4).permute(0, 3, 1, 2).to(image))
    # The hard pass normalises by the batch and leaves the running statistics, hence the fresh momentum.
    if x_hat is not None:
        loss = loss + ftn(x_hat)
    if p_hat is not None:
        loss = loss + stn(torch.softmax(p_hat / 2, 1))
    return loss


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}, {}),
    "image masks only": ({"shape": False}, {}, {}),
    "shape masks only": ({"image": False}, {}, {}),
    "no latent masks": ({"image": False, "shape": False}, {}, {}),
    "separate": ({}, {"separate": True}, {}),
    "no decoupler": ({}, {}, {"decoupler": False}),
    "no input noise": ({}, {"input_noise": 0.0}, {}),
    "saliency": ({"score": "saliency"}, {}, {}),
    "score of the output": ({"score": "score"}, {}, {}),
    "rescaled": ({"rescale": True}, {}, {}),
    "before cooperation": ({}, {}, {}),
    "half of the batch": ({"share": 0.5}, {}, {}),
    "an STN on every second image": ({}, {"separate": True, "stn_every": 2}, {}),
    "both": ({"share": 0.75}, {"separate": True, "stn_every": 2}, {}),
    "no reconstruction": ({"image": False}, {"reconstruction": 0.0}, {}),
    "neither it nor a decoupler": ({"image": False}, {"reconstruction": 0.0}, {"decoupler": False}),
    "damaged labels": ({}, {"damage": True, "separate": True, "stn_every": 3}, {}),
    "a U-Net": ({}, {}, {"kind": "unet"}),
    "a U-Net without masks": ({"image": False, "shape": False}, {}, {"kind": "unet"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_gradients_equal_those_of_one_graph(case: Any, dtype: torch.dtype, tolerance: float) -> None:
    latent, losses, chosen = CASES[case]
    step = build(LatentSettings(**latent), LossSettings(**losses), **chosen)
    step.networks.to(dtype)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(4, 1, 32, 32, dtype=dtype, generator=generator)
    label = torch.randint(4, (4, 32, 32), generator=generator)
    choice = step.sample(image, generator, cooperate=case != "before cooperation")
    result = step.backward(image, label, choice)
    assert (result.x_hat is None) == (choice.image is None)
    if choice.image is not None and result.x_hat is not None:
        assert len(result.x_hat) == 4 * step.settings.latent.share
    found = {name: p.grad for name, p in step.networks.named_parameters() if p.grad is not None}
    step.networks.zero_grad(set_to_none=True)
    loss = one_graph(step, image, label, choice, result.x_hat, result.p_hat)
    loss.backward()
    assert float(result.losses["total"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    for network in NETWORKS:
        prefix = f"{network}."
        names = [
            n for n, p in step.networks.named_parameters() if n.startswith(prefix) and p.grad is not None
        ]
        if network == "image_decoder" and not step.settings.losses.reconstruction:
            assert not any(name.startswith(prefix) for name in (*names, *found))
            continue
        reference = torch.cat([step.networks.get_parameter(n).grad.flatten() for n in names])
        ours = torch.cat([found[n].flatten() for n in names])
        assert (ours - reference).norm() <= tolerance * reference.norm(), network


@pytest.mark.parametrize("scheme", [DROPOUT, CHANNEL, SPATIAL])
def test_nothing_is_read_around_the_masks_of_a_unet(scheme: int) -> None:
    step = build(LatentSettings(image=False, skip_dead=False), kind="unet")
    label, noise = torch.randint(4, (2, 32, 32)), torch.zeros(2, 1, 32, 32)
    whole, *skips = (
        choice_of(scheme, 1.0, batch=2, channels=channels, positions=height * width)
        for _, channels, height, width in step.networks.code_shapes(noise.shape)[1:]
    )

    def decoded(masks: list[MaskChoice]) -> Tensor:
        found: Tensor = step.backward(
            torch.rand(noise.shape), label, StepChoice(noise, None, whole, tuple(masks))
        ).p_hat
        return found

    assert torch.equal(decoded(skips), decoded(skips))
    none = [replace(mask, fraction=torch.zeros(2)) for mask in skips]
    hidden = scheme == SPATIAL  # a region that is masked in the code is masked in the skips
    assert torch.equal(decoded(none), decoded(none)) == hidden


def statistics(networks: Networks) -> torch.Tensor:
    return torch.cat([layer.running_mean for layer in norms(networks)])


def run(step: CooperativeStep, batch: int = 2, side: int = 32) -> StepResult:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, 1, side, side, generator=generator)
    label = torch.randint(4, (batch, side, side), generator=generator)
    return step.backward(image, label, step.sample(image, generator))


@pytest.mark.parametrize("norm", ["no_update", "frozen"])
def test_hard_pass_leaves_running_statistics(norm: str) -> None:
    clean, hard = build(LatentSettings(image=False, shape=False)), build(LatentSettings(norm=norm))
    run(clean)
    run(hard)
    # Adding the masks may not change what the standard pass recorded.
    torch.testing.assert_close(statistics(hard.networks), statistics(clean.networks))


def test_shared_hard_pass_records() -> None:
    quiet, loud = build(LatentSettings(norm="no_update")), build(LatentSettings(norm="shared"))
    run(quiet)
    run(loud)
    assert not torch.allclose(statistics(quiet.networks), statistics(loud.networks))


def test_frozen_hard_pass_gives_norm_layers_the_standard_gradient_only() -> None:
    clean, frozen = build(LatentSettings(image=False, shape=False)), build(LatentSettings(norm="frozen"))
    run(clean)
    run(frozen)
    for ours, reference in zip(norms(frozen.networks), norms(clean.networks), strict=True):
        torch.testing.assert_close(ours.weight.grad, reference.weight.grad)


def test_published_probe_records_a_second_time() -> None:
    step = build(PUBLISHED.model_copy(update={"scheme": "channel"}))
    once = build(LatentSettings(image=False, shape=False))
    run(once)
    run(step)
    for name, twice in (("segmentation_decoder", True), ("shape_encoder", False)):
        ours, first = (norms(getattr(s.networks, name))[0].running_mean for s in (step, once))
        expected = first + 0.9 * first if twice else first  # from 0: the recurrence of `recorded_twice`
        torch.testing.assert_close(ours, expected)


def test_the_same_choice_gives_the_same_gradients() -> None:
    first, second = build(), build()
    run(first)
    run(second)
    assert torch.equal(gradient_of(first.networks), gradient_of(second.networks))


def test_rises_count_every_sample_once() -> None:
    result = run(build(), batch=6)
    assert float(result.rises["image"][:, 2].sum()) == 6
    assert float(result.rises["shape"][:, 2].sum()) == 6


def test_without_an_stn_it_gets_no_gradient() -> None:
    step = build(losses=LossSettings(stn=False))
    result = run(step)
    assert all(p.grad is None for p in step.networks.shape_encoder.parameters())
    assert result.p_hat is None


@pytest.mark.slow
def test_bfloat16_gradients_point_the_same_way() -> None:
    # Only once something is learned: the gradient of random weights is the sum of terms that cancel.
    reference, ours = build(width=8), build(width=8)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(reference.networks.parameters(), 2e-3)
    for _ in range(20):
        image, label = rings(generator)
        optimiser.zero_grad()
        reference.backward(image, label, reference.sample(image, generator))
        optimiser.step()
    ours.networks.load_state_dict(reference.networks.state_dict())
    # Dropout masks: targeted ones may pick another channel after rounding, a different but equal step.
    image, label = rings(generator)
    masks = LatentMasks(scheme="dropout")
    choice = StepChoice(
        torch.randn(image.shape, generator=generator),
        masks.sample((8, 64, 4, 4), generator),
        masks.sample((8, 64, 4, 4), generator),
    )
    reference.networks.zero_grad()
    reference.backward(image, label, choice)
    with torch.autocast("cpu", torch.bfloat16):
        ours.backward(image, label, choice)
    for name in NETWORKS:
        a, b = (gradient_of(getattr(step.networks, name)) for step in (reference, ours))
        assert F.cosine_similarity(a, b, dim=0) > 0.99, name


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_computes_what_the_cpu_does() -> None:
    here, there = build(), build()
    here.networks.double()
    there.networks.double().cuda()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 32, 32, dtype=torch.float64, generator=generator)
    label = torch.randint(4, (2, 32, 32), generator=generator)
    here.backward(image, label, here.sample(image, torch.Generator().manual_seed(1)))
    image, label = image.cuda(), label.cuda()
    there.backward(image, label, there.sample(image, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(gradient_of(there.networks).cpu(), gradient_of(here.networks))


class Toy(nn.Module):
    """Somebody else's networks, of torch's layers alone."""

    classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.bridge = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.InstanceNorm2d(8, affine=True), nn.ReLU())
        self.image_decoder = nn.Sequential(nn.ConvTranspose2d(8, 1, 2, 2), nn.BatchNorm2d(1), nn.Sigmoid())
        self.segmentation_decoder = nn.Sequential(
            nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
        )
        self.stn = nn.Sequential(nn.Conv2d(4, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(image)
        return code, self.bridge(code)

    def code_shapes(self, image_shape: Sequence[int]) -> list[tuple[int, ...]]:
        code = image_shape[0], 8, image_shape[2] // 2, image_shape[3] // 2
        return [code, code]

    def refine(self, probabilities: Tensor) -> Tensor:
        found: Tensor = self.stn(probabilities)
        return found


def toy_loss(toy: Toy, inputs: Tensor, image: Tensor, label: Tensor) -> Tensor:
    z_i, z_s = toy.encode(inputs)
    p = toy.segmentation_decoder(z_s)
    refined = F.cross_entropy(toy.refine(torch.softmax(p / 2, 1)), label)
    return F.cross_entropy(p, label) + F.mse_loss(toy.image_decoder(z_i), image) / 2 + refined


def slow_toy_step(toy: Toy, image: Tensor, label: Tensor, choice: StepChoice, *, learns: bool) -> Tensor:
    """L_std + L_hard as the paper writes them; returns the loss and leaves the gradients in `toy`."""
    exact = F.one_hot(label, 4).movedim(3, 1).to(image)
    standard = F.cross_entropy(toy.refine(exact), label)
    standard = standard + toy_loss(toy, (image + 0.05 * choice.noise).clamp(0, 1), image, label)
    standard.backward()
    recorded = {name: value.clone() for name, value in toy.named_buffers()}
    affine = [m for m in toy.modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)]
    gradients = {name: copy.copy(parameter.grad) for name, parameter in toy.named_parameters()}

    z_i, z_s = (z.detach().requires_grad_() for z in toy.encode((image + 0.05 * choice.noise).clamp(0, 1)))
    assert choice.image is not None
    assert choice.shape is not None
    (g_i,) = torch.autograd.grad(F.mse_loss(toy.image_decoder(z_i), image), z_i)
    (g_s,) = torch.autograd.grad(F.cross_entropy(toy.segmentation_decoder(z_s), label), z_s)
    x_hat = toy.image_decoder(z_i * build_mask(choice.image, z_i, g_i)).detach()
    p_hat = toy.segmentation_decoder(z_s * build_mask(choice.shape, z_s, g_s)).detach()
    toy.zero_grad()
    hard = toy_loss(toy, x_hat, image, label)
    hard = hard + F.cross_entropy(toy.refine(torch.softmax(p_hat / 2, 1)), label)
    hard.backward()
    for name, value in toy.named_buffers():
        value.copy_(recorded[name])
    fixed = set() if learns else {id(p) for layer in affine for p in layer.parameters()}
    for name, parameter in toy.named_parameters():
        first, second = gradients[name], parameter.grad
        assert first is not None
        assert second is not None
        parameter.grad = first if id(parameter) in fixed else first + second
    return (standard + hard).detach()


@pytest.mark.parametrize(("norm", "learns"), [("no_update", True), ("frozen", False)])
def test_anyones_networks_get_the_gradients_of_the_paper(norm: str, learns: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = Toy().double(), Toy().double()
    theirs.load_state_dict(ours.state_dict())
    image, label = (
        t.double() if t.is_floating_point() else t for t in rings(torch.Generator().manual_seed(0))
    )
    step = CooperativeStep(ours, Settings(latent=LatentSettings(norm=norm)))
    choice = step.sample(image, torch.Generator().manual_seed(1))
    found = step.backward(image, label, choice)
    expected = slow_toy_step(theirs, image, label, choice, learns=learns)
    torch.testing.assert_close(found.losses["total"], expected)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-7, atol=1e-10)
    for name, value in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), value)


def test_anyones_networks_can_be_trained() -> None:
    torch.manual_seed(0)
    toy, generator = Toy(), torch.Generator().manual_seed(0)
    step, optimiser, totals = CooperativeStep(toy), torch.optim.Adam(toy.parameters(), 1e-2), []
    for _ in range(30):
        image, label = rings(generator)
        optimiser.zero_grad()
        totals.append(float(step.backward(image, label, step.sample(image, generator)).losses["total"]))
        optimiser.step()
    assert sum(totals[-5:]) < 0.7 * sum(totals[:5])


class AnyDimension(nn.Module):
    """Two codes, one skip, two decoders and an STN; in 3-D its kernels are one slice deep."""

    classes = 3

    def __init__(self, dims: int) -> None:
        super().__init__()

        def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
            thick = [1] * (dims - 2)
            pad = [0] * (dims - 2) + [kernel // 2] * 2
            layer: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
            return layer(inputs, outputs, (*thick, kernel, kernel), (*thick, stride, stride), pad)

        factor = (2, 2) if dims == 2 else (1, 2, 2)
        self.first, self.second = convolution(1, 4, 3), convolution(4, 8, 3, 2)
        self.up = nn.Upsample(scale_factor=factor)
        self.image_decoder = nn.Sequential(convolution(8, 1, 3), self.up)
        self.segment, self.stn = convolution(12, 3, 3), convolution(3, 3, 3)

    def encode(self, image: Tensor) -> list[Tensor]:
        high = self.first(image).relu()
        code = self.second(high).relu()
        return [code, code, high]

    def code_shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        code = (shape[0], 8, *shape[2:-2], shape[-2] // 2, shape[-1] // 2)
        return [code, code, (shape[0], 4, *shape[2:])]

    @property
    def segmentation_decoder(self) -> Any:
        return self

    def forward(self, code: Tensor, skip: Tensor) -> Tensor:
        found: Tensor = self.segment(torch.cat([self.up(code), skip], 1))
        return found

    def refine(self, probabilities: Tensor) -> Tensor:
        found: Tensor = self.stn(probabilities)
        return found


@pytest.mark.parametrize("latent", [{}, {"rescale": True, "score": "saliency"}])
def test_a_volume_of_one_slice_equals_the_slice(latent: dict[str, Any]) -> None:
    """3-D networks with kernels one slice deep have, after a step, the gradients of the 2-D ones."""
    found = []
    for dims in (2, 3):
        torch.manual_seed(0)
        networks, settings = AnyDimension(dims), Settings()
        settings = settings.model_copy(
            update={
                "latent": LatentSettings(**latent),
                "losses": settings.losses.model_copy(update={"dice": 1.0}),
            }
        )
        step = CooperativeStep(networks, settings)
        image, label = torch.rand(3, 1, 16, 16), torch.randint(3, (3, 16, 16))
        if dims == 3:
            image, label = image[:, :, None], label[:, None]
        result = step.backward(image, label, step.sample(image, torch.Generator().manual_seed(1)))
        grown = [parameter.grad for parameter in networks.parameters()]
        found.append((result.losses, [torch.zeros(1) if g is None else g.flatten() for g in grown]))
    (flat, flat_gradients), (deep, deep_gradients) = found
    assert flat.keys() == deep.keys()
    torch.testing.assert_close(flat, deep)
    torch.testing.assert_close(flat_gradients, deep_gradients)
