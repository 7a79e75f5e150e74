"""Draws: their distributions, their replay, and that a whole batch equals its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coopseg.latent.choice import CHANNEL, DROPOUT, SCHEMES, SPATIAL, MaskChoice, sample_choice
from coopseg.latent.masks import LatentMasks

SHAPE = (4000, 6, 3, 5)


def draw(seed: int = 0, shape: tuple[int, ...] = SHAPE, **changes: Any) -> MaskChoice:
    return LatentMasks(**changes).sample(shape, torch.Generator().manual_seed(seed))


def assert_same(one: MaskChoice, other: MaskChoice) -> None:
    assert one.present == other.present
    for name, tensor in one.state().items():
        torch.testing.assert_close(tensor, other.state()[name], rtol=0, atol=0)


def test_shapes_and_dtypes_are_as_documented() -> None:
    choice = draw()
    assert {name: tuple(tensor.shape) for name, tensor in choice.state().items()} == {
        "scheme": (4000,),
        "fraction": (4000,),
        "priority": (4000, 6),
        "channel_factor": (4000, 6),
        "position_factor": (4000, 15),
    }
    assert choice.scheme.dtype == torch.int64
    assert choice.fraction.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "top"), [("fraction", 0.3), ("priority", 1.0), ("channel_factor", 0.8), ("position_factor", 0.8)]
)
def test_draws_are_uniform_from_0_to_their_limit(name: str, top: float) -> None:
    values = draw(p=0.3, annealing=0.8).state()[name].flatten()
    assert values.min() >= 0
    assert values.max() < top
    expected = (torch.arange(len(values)) + 0.5) / len(values) * top
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is passed by all but one draw in a thousand, and the seed is fixed
    assert (values.sort().values - expected).abs().max() / top < 1.95 / len(values) ** 0.5


def test_mixed_draws_each_scheme_a_third_of_the_time() -> None:
    share = torch.bincount(draw().scheme, minlength=3) / SHAPE[0]
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), rtol=0, atol=0.03)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_named_scheme_is_everyones_and_changes_no_other_draw(scheme: str) -> None:
    choice, mixed = draw(scheme=scheme), draw()
    assert choice.present == {SCHEMES.index(scheme)}
    assert torch.equal(choice.fraction, mixed.fraction)
    assert torch.equal(choice.position_factor, mixed.position_factor)


def test_hard_masks_have_factor_0() -> None:
    choice = draw(soft=False)
    assert not choice.channel_factor.any()
    assert not choice.position_factor.any()
    assert torch.equal(choice.fraction, draw().fraction)


def test_scope_batch_shares_scheme_and_fraction_but_not_factors() -> None:
    choice = draw(shape=(8, 6, 4), scope="batch")
    assert len(choice.scheme.unique()) == len(choice.fraction.unique()) == 1
    assert len(choice.priority.unique()) == len(choice.channel_factor.unique()) == 48
    assert choice.scheme.shape == choice.fraction.shape == (8,)


def test_scope_batch_draws_every_scheme_in_time() -> None:
    assert {next(iter(draw(seed, shape=(2, 3, 4), scope="batch").present)) for seed in range(40)} == {0, 1, 2}


def test_the_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    assert_same(draw(3), draw(3))
    assert not torch.equal(draw(3).fraction, draw(4).fraction)


def test_without_a_generator_the_global_one_is_used() -> None:
    torch.manual_seed(11)
    first = sample_choice(SHAPE)
    torch.manual_seed(11)
    assert_same(first, sample_choice(SHAPE))


def test_only_dropout_needs_no_gradient() -> None:
    assert [draw(scheme=scheme).needs_gradient for scheme in SCHEMES] == [False, True, True]
    assert draw().needs_gradient


def test_state_round_trip() -> None:
    choice = draw()
    assert_same(choice, MaskChoice.from_state(choice.state()))


def test_concat_puts_parts_back_together() -> None:
    whole = draw(shape=(5, 6, 7))
    parts = [
        MaskChoice.from_state({name: tensor[rows] for name, tensor in whole.state().items()})
        for rows in (slice(0, 2), slice(2, 5))
    ]
    assert_same(whole, MaskChoice.concat(parts))


def test_concat_knows_the_schemes_of_all_parts() -> None:
    joined = MaskChoice.concat([draw(scheme="dropout"), draw(scheme="spatial")])
    assert joined.present == {DROPOUT, SPATIAL}
    assert CHANNEL not in joined.scheme


def test_to_moves_every_tensor() -> None:
    moved = draw(shape=(2, 3, 4)).to("meta")
    assert {tensor.device.type for tensor in moved.state().values()} == {"meta"}


def test_a_code_without_positions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, C, \*spatial\), found \(2, 3\)"):
        sample_choice((2, 3))
