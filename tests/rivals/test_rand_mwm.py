"""Multi-window masking against loops over pixels, by its stated distributions, and in a step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.config.resolve import resolve_settings
from coopseg.config.rivals import RandMwmSettings
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.rivals.rand_mwm import RandMwm, Windows, paint
from coopseg.training.step import CooperativeStep


def draw(image: Tensor, seed: int = 0, **settings) -> Windows:
    return RandMwm(RandMwmSettings(**settings)).sample(image, None, torch.Generator().manual_seed(seed))


def in_a_window(drawn: Windows, b: int, row: int, column: int) -> bool:
    for (top, left), (height, width), present in zip(
        drawn.start[b].tolist(), drawn.length[b].tolist(), drawn.present[b].tolist(), strict=True
    ):
        if present and top <= row < top + height and left <= column < left + width:
            return True
    return False


def test_paints_what_a_loop_over_pixels_does() -> None:
    image = torch.rand(6, 2, 24, 30, generator=torch.Generator().manual_seed(1))
    drawn = draw(image)
    assert drawn.outside.any()
    assert not drawn.outside.all()
    expected = image.clone()
    for b in range(6):
        for row in range(24):
            for column in range(30):
                if in_a_window(drawn, b, row, column) != bool(drawn.outside[b]):
                    expected[b, :, row, column] = drawn.noise[b, :, row, column]
    assert torch.equal(paint(image, drawn), expected)


def test_windows_lie_as_stated() -> None:
    drawn = draw(torch.zeros(4000, 1, 24, 36))
    size = torch.tensor([24, 36])
    end = drawn.start + drawn.length
    for found, expected in (
        (drawn.length.amin((0, 1)), size // 6),
        (drawn.length.amax((0, 1)), size // 3),
        (drawn.start.amin((0, 1)), torch.tensor([3, 3])),
        (end.amax((0, 1)), size - 3),
    ):
        assert torch.equal(found, expected)
    # each of the five heights is as frequent: 5 deviations of 20000 draws
    counts = torch.bincount(drawn.length[..., 0].flatten(), minlength=9)[4:]
    assert ((counts / 20000 - 1 / 5).abs() < 5 * (0.16 / 20000) ** 0.5).all()


def test_how_many_windows_and_where_the_noise() -> None:
    drawn = draw(torch.zeros(4000, 1, 24, 24))
    counts = drawn.present.sum(1)
    assert (drawn.present == (torch.arange(5) < counts[:, None])).all()  # no gap
    for number, p in ((1, 0.05), (2, 0.05 * 0.95), (5, 0.95**4)):
        share = float((counts == number).float().mean())
        assert share == pytest.approx(p, abs=5 * (p * (1 - p) / 4000) ** 0.5)
    assert float(drawn.outside.float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / 4000**0.5)
    assert float(drawn.noise.mean()) == pytest.approx(0.5, abs=0.002)
    assert float(drawn.noise.var()) == pytest.approx(1 / 12, abs=0.001)


def test_the_same_seed_paints_the_same() -> None:
    image = torch.rand(3, 1, 32, 32)
    assert torch.equal(paint(image, draw(image, 4)), paint(image, draw(image, 4)))
    assert not torch.equal(paint(image, draw(image, 4)), paint(image, draw(image, 5)))


@pytest.mark.parametrize("settings", [{"border": 14}, {"side": (0.0, 0.01)}])
def test_windows_that_do_not_fit(settings) -> None:
    with pytest.raises(CoopsegError, match=r"windows of .* do not fit into .* change side or border"):
        draw(torch.zeros(2, 1, 32, 32), **settings)


def make_step(method: str) -> CooperativeStep:
    found = resolve_settings(method=method, overrides={"network.width": 2})
    torch.manual_seed(0)
    return CooperativeStep(Networks(classes=3, settings=found.network).double(), found)


def test_the_step_adds_its_hard_pass() -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(4, 1, 32, 32, generator=generator, dtype=torch.float64)
    image[:, :, 0, 0], image[:, :, 0, 1] = 0, 1
    label = torch.randint(3, (4, 32, 32), generator=generator)
    step, without = make_step("rand-mwm"), make_step("cooperative-no-latent")
    choice = step.sample(image, torch.Generator().manual_seed(1))
    step(image, label, choice)
    without(image, label, without.sample(image, torch.Generator().manual_seed(1)))

    plain = make_step("rand-mwm").networks
    painted = paint(image, choice.rivals[0])
    low, high = painted.amin((1, 2, 3), keepdim=True), painted.amax((1, 2, 3), keepdim=True)
    image_code, shape_code = plain.encode((painted - low) / (high - low))
    p = plain.segmentation_decoder(shape_code)
    loss = F.cross_entropy(p, label) + 0.5 * F.mse_loss(plain.image_decoder(image_code), image)
    (loss + F.cross_entropy(plain.refine(torch.softmax(p / 2, 1)), label)).backward()
    standard = dict(without.networks.named_parameters())
    expected = dict(plain.named_parameters())
    for name, parameter in step.networks.named_parameters():
        if parameter.grad is not None:  # a bias that a norm undoes has none
            hard = expected[name].grad
            torch.testing.assert_close(parameter.grad, standard[name].grad + hard, rtol=1e-8, atol=1e-10)
