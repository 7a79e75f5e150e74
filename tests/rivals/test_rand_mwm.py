"""Multi-window masking against loops over pixels, by its stated distributions, and in a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from coopseg.config.rivals import RandMwmSettings
from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import Networks
from coopseg.rivals.rand_mwm import RandMwm, Windows, paint


def draw(image: Tensor, seed: int = 0, **settings: Any) -> Windows:
    return RandMwm(RandMwmSettings(**settings)).sample(image, None, torch.Generator().manual_seed(seed))


def in_a_window(drawn: Windows, b: int, row: int, column: int) -> bool:
    for (top, left), (height, width), present in zip(
        drawn.start[b].tolist(), drawn.length[b].tolist(), drawn.present[b].tolist(), strict=True
    ):
        if present and top <= row < top + height and left <= column < left + width:
            return True
    return False


def test_paints_what_a_loop_over_pixels_does() -> None:
    image = torch.rand(12, 2, 24, 30, generator=torch.Generator().manual_seed(1))
    drawn = draw(image)
    assert set(zip(drawn.applied.tolist(), drawn.outside.tolist(), strict=True)) == {
        (False, False), (False, True), (True, False), (True, True)
    }  # fmt: skip
    expected = image.clone()
    for b in range(12):
        for row in range(24):
            for column in range(30):
                if drawn.applied[b] and in_a_window(drawn, b, row, column) != bool(drawn.outside[b]):
                    expected[b, :, row, column] = drawn.noise[b, :, row, column]
    assert torch.equal(paint(image, drawn), expected)


def test_windows_lie_as_stated() -> None:
    drawn = draw(torch.zeros(8000, 1, 24, 36))
    size = torch.tensor([24, 36])
    for outside, (low, high) in ((False, (1 / 6, 1 / 3)), (True, (0.4, 0.6))):
        length, start = drawn.length[drawn.outside == outside], drawn.start[drawn.outside == outside]
        least, most = (torch.tensor([int(part * side) for side in (24, 36)]) for part in (low, high))
        for found, expected in (
            (length.amin((0, 1)), least),
            (length.amax((0, 1)), most),
            (start.amin((0, 1)), torch.tensor([3, 3])),
            ((start + length).amax((0, 1)), size - 3),
        ):
            assert torch.equal(found, expected)
        # each height is as frequent: 5 deviations of some 20000 draws
        counts = torch.bincount(length[..., 0].flatten())[int(least[0]) :]
        share, draws = 1 / len(counts), int(counts.sum())
        assert ((counts / draws - share).abs() < 5 * (share * (1 - share) / draws) ** 0.5).all()


def slow_share(outside: bool, low: int, high: int, size: int, draws: int) -> float:
    """The share of noise where windows are drawn one after another, of `low` to `high` pixels."""
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(draws):
        windows = np.zeros((size, size), bool)
        for number in range(5):
            if number and generator.random() >= 0.95:
                break
            height, width = generator.integers(low, high, 2, endpoint=True)
            top, left = (generator.integers(3, size - 3 - side, endpoint=True) for side in (height, width))
            windows[top : top + height, left : left + width] = True
        shares.append(abs(outside - windows.mean()))
    return float(np.mean(shares))


def test_how_much_of_an_image_is_noise() -> None:
    """A quarter when in-painting, nearly half when out-painting, and nothing in half of all images."""
    image = torch.full((2000, 1, 96, 96), -1.0)
    drawn = draw(image)
    noisy = (paint(image, drawn) >= 0).float().mean((1, 2, 3))
    assert (noisy[~drawn.applied] == 0).all()
    assert (noisy[drawn.applied] > 0).all()
    assert float(drawn.applied.float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / 2000**0.5)
    for outside, (low, high), stated in ((False, (16, 32), 0.25), (True, (38, 57), 0.47)):
        found = float(noisy[drawn.applied & (drawn.outside == outside)].mean())
        assert found == pytest.approx(slow_share(outside, low, high, 96, 2000), abs=0.02)
        assert found == pytest.approx(stated, abs=0.05)


def test_the_probability_of_noise_changes_no_other_draw() -> None:
    image = torch.zeros(8, 1, 32, 32)
    always, never = draw(image, p=1), draw(image, p=0)
    assert always.applied.all()
    assert not never.applied.any()
    assert torch.equal(paint(image, never), image)
    for name in ("start", "length", "present", "outside", "noise"):
        assert torch.equal(getattr(always, name), getattr(never, name))


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


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"border": 14}, "side"), ({"side": (0.0, 0.01)}, "side"), ({"out_side": (0.4, 0.9)}, "out_side")],
)
def test_windows_that_do_not_fit(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(CoopsegError, match=rf"windows of .* do not fit into .* change {name} or border"):
        draw(torch.zeros(2, 1, 32, 32), **settings)


def test_a_step_is_one_graph(steps: Any) -> None:
    def further(networks: Networks, image: Tensor, label: Tensor, drawn: Any) -> Tensor:
        painted = paint(image, drawn)
        low, high = painted.amin((1, 2, 3), keepdim=True), painted.amax((1, 2, 3), keepdim=True)
        image_code = networks.image_encoder((painted - low) / (high - low))
        return steps.loss_of_code(networks, image_code, image, label)

    steps.check_against_one_graph("rand-mwm", further, records=False, learns=False)
