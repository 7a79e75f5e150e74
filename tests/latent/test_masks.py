"""Masks against the golden ones, against a slow version with loops, and by their properties."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from coopseg.latent.choice import CHANNEL, DROPOUT, SCHEMES, SPATIAL, MaskChoice, Scheme, sample_choice
from coopseg.latent.masks import LatentMasks, Rule, apply_mask, build_mask, rise_by_scheme, scores
from coopseg.networks.coders import Decoder

GRADIENTS = {"z_i": "train.grad_mse_z_i", "z_s": "train.grad_ce_z_s"}


def example(
    seed: int, spatial: tuple[int, ...], *, batch: int = 4, channels: int = 9
) -> tuple[Tensor, Tensor]:
    """A non-negative code with dead channels (all of them in the last sample) and a gradient with ties."""
    generator = torch.Generator().manual_seed(seed)
    code = torch.randn(batch, channels, *spatial, generator=generator).relu()
    code *= (torch.rand(batch, channels, generator=generator) < 0.7).reshape(
        batch, channels, *[1] * len(spatial)
    )
    code[-1] = 0
    gradient = torch.randn(code.shape, generator=generator)
    gradient[:, 1] = gradient[:, 0]
    gradient[0] = gradient[0].round()
    return code, gradient


def draw(code: Tensor, options: LatentMasks, seed: int = 0) -> MaskChoice:
    return options.sample(code.shape, torch.Generator().manual_seed(seed))


def masked_indices(score: np.ndarray, candidates: list[int], count: int, ties: str) -> list[int]:
    """Which of `candidates` have the `count` highest scores, one row, spelled out."""
    ranked = sorted(candidates, key=lambda index: (-score[index], index))
    if ties == "exact" or not ranked:
        return ranked[:count]
    return [index for index in ranked if score[index] > score[ranked[count]]]


def slow_mask(choice: MaskChoice, code: Tensor, gradient: Tensor, options: LatentMasks) -> np.ndarray:
    """The documented rule, one element at a time."""
    z, g = code.numpy().reshape(*code.shape[:2], -1), gradient.numpy().reshape(*code.shape[:2], -1)
    value = {"gradient": g, "score": g, "saliency": -g * z, "magnitude": np.abs(g)}[options.score]
    mask = np.ones_like(z)
    for b, scheme in enumerate(choice.scheme.tolist()):
        u, priority = np.float32(choice.fraction[b]), choice.priority[b].numpy()
        if scheme == SPATIAL:
            score = torch.from_numpy(value[b]).mean(0).numpy()
            n = len(score)
            for i in masked_indices(score, list(range(n)), int(u * np.float32(n)), options.ties):
                mask[b, :, i] = choice.position_factor[b, i]
        elif scheme == DROPOUT and options.published_dropout:
            for c in range(len(priority)):
                mask[b, c] = 1 / (1 - options.p) if priority[c] < 1 - options.p else 0
        else:
            score = priority if scheme == DROPOUT else torch.from_numpy(value[b]).mean(1).numpy()
            live = [c for c in range(len(priority)) if z[b, c].any() or not options.skip_dead]
            for c in masked_indices(score, live, int(u * np.float32(len(live))), options.ties):
                mask[b, c] = choice.channel_factor[b, c]
    return mask.reshape(code.shape)


@pytest.mark.parametrize("fraction", [10, 25, 50])
@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_masks_equal_the_published_ones(golden: Path, scheme: Scheme, name: str, fraction: int) -> None:
    tensors = load_file(golden / "tensors.safetensors")
    code = tensors[f"train.{name}"]
    options = LatentMasks(scheme=scheme, ties="strict", soft=False, skip_dead=False)
    choice = dataclasses.replace(draw(code, options), fraction=torch.full((len(code),), fraction / 100))
    mask = options.build(choice, code, tensors[GRADIENTS[name]])
    assert torch.equal(mask, tensors[f"mask.{scheme}.{name}.p{fraction}"])


OPTIONS = st.builds(
    LatentMasks,
    scheme=st.sampled_from([*SCHEMES, "mixed"]),
    score=st.sampled_from(["gradient", "saliency", "magnitude", "score"]),
    ties=st.sampled_from(["exact", "strict"]),
    scope=st.sampled_from(["sample", "batch"]),
    soft=st.booleans(),
    skip_dead=st.booleans(),
    published_dropout=st.booleans(),
    p=st.sampled_from([0.0, 0.33, 0.5, 0.9]),
    annealing=st.sampled_from([0.0, 0.5, 1.0]),
)
SPATIALS = st.sampled_from([(1,), (7,), (3, 4), (2, 3, 2)])
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=300, deadline=None)
@given(OPTIONS, SPATIALS, SEEDS)
def test_masks_equal_the_slow_version(options: LatentMasks, spatial: tuple[int, ...], seed: int) -> None:
    code, gradient = example(seed, spatial)
    choice = draw(code, options, seed)
    mask = options.build(choice, code, gradient)
    np.testing.assert_allclose(mask.expand_as(code), slow_mask(choice, code, gradient, options), rtol=1e-6)
    masked = apply_mask(code, mask)
    np.testing.assert_allclose(masked, code.numpy() * slow_mask(choice, code, gradient, options), rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SCHEMES), SPATIALS, SEEDS)
def test_exactly_int_of_un_are_masked_and_they_are_the_largest(
    scheme: Scheme, spatial: tuple[int, ...], seed: int
) -> None:
    code, gradient = example(seed, spatial)
    options = LatentMasks(scheme=scheme, soft=False)
    choice = draw(code, options, seed)
    mask = options.build(choice, code, gradient).flatten(1)
    if scheme == "spatial":
        score, eligible = gradient.mean(1).flatten(1), torch.ones_like(mask, dtype=torch.bool)
    else:
        score = choice.priority if scheme == "dropout" else gradient.flatten(2).mean(2)
        eligible = code.flatten(2).any(2)
    assert torch.equal((mask == 0).sum(1), (choice.fraction * eligible.sum(1)).long())
    for row in range(len(code)):
        masked, kept = mask[row] == 0, (mask[row] == 1) & eligible[row]
        assert not (masked & ~eligible[row]).any()
        if masked.any() and kept.any():
            assert score[row][masked].min() >= score[row][kept].max()


@settings(max_examples=50, deadline=None)
@given(OPTIONS, SEEDS)
def test_permuting_samples_channels_and_positions_permutes_the_mask(options: LatentMasks, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    code = torch.rand(4, 6, 10, generator=generator, dtype=torch.float64)
    gradient = torch.randn(4, 6, 10, generator=generator, dtype=torch.float64)
    choice = draw(code, options, seed)
    b, c, n = (torch.randperm(size, generator=generator) for size in code.shape)
    moved = MaskChoice(
        scheme=choice.scheme[b],
        fraction=choice.fraction[b],
        priority=choice.priority[b][:, c],
        channel_factor=choice.channel_factor[b][:, c],
        position_factor=choice.position_factor[b][:, n],
        present=choice.present,
    )
    permuted = options.build(moved, code[b][:, c][:, :, n], gradient[b][:, c][:, :, n])
    plain = options.build(choice, code, gradient).expand_as(code)
    assert torch.equal(permuted.expand_as(code), plain[b][:, c][:, :, n])


@settings(max_examples=50, deadline=None)
@given(OPTIONS, SEEDS)
def test_a_saved_choice_replays_and_parts_make_the_same_masks_as_the_whole(
    options: LatentMasks, seed: int
) -> None:
    code, gradient = example(seed, (3, 4))
    choice = draw(code, options, seed)
    whole = options.build(choice, code, gradient).expand_as(code)
    for rows in (slice(0, 4), slice(0, 1), slice(1, 4)):
        part = MaskChoice.from_state({name: tensor[rows] for name, tensor in choice.state().items()})
        mask = options.build(part, code[rows], gradient[rows])
        assert torch.equal(mask.expand_as(code[rows]), whole[rows])


def test_mixed_batches_mask_each_sample_by_its_own_scheme() -> None:
    code, gradient = torch.rand(300, 8, 5), torch.randn(300, 8, 5)
    options = LatentMasks(soft=False)
    choice = draw(code, options)
    mask = options.build(choice, code, gradient)
    by_position = choice.scheme == SPATIAL
    assert (mask[by_position] == mask[by_position][:, :1]).all()
    assert (mask[~by_position] == mask[~by_position][..., :1]).all()


@pytest.mark.parametrize(
    ("scheme", "shape"), [("dropout", (4, 9, 1, 1)), ("channel", (4, 9, 1, 1)), ("spatial", (4, 1, 3, 5))]
)
def test_a_single_scheme_gives_the_smallest_mask_that_broadcasts(
    scheme: Scheme, shape: tuple[int, ...]
) -> None:
    code, gradient = example(0, (3, 5))
    options = LatentMasks(scheme=scheme)
    assert options.build(draw(code, options), code, gradient).shape == shape


@pytest.mark.parametrize("scheme", [*SCHEMES, "mixed"])
def test_too_small_a_fraction_leaves_the_code_unchanged(scheme: Scheme) -> None:
    code, gradient = example(0, (2, 2))
    options = LatentMasks(scheme=scheme, p=0.1)  # 9 channels and 4 positions: int(u·n) is 0
    mask = options.build(draw(code, options), code, gradient)
    assert torch.equal(apply_mask(code, mask), code)


def test_published_dropout_keeps_the_mean_and_drops_with_probability_p() -> None:
    code = torch.ones(500, 40, 2, 2)
    options = LatentMasks(scheme="dropout", published_dropout=True, p=0.3)
    mask = options.build(draw(code, options), code, None)
    assert sorted(mask.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert (mask == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert mask.mean() == pytest.approx(1, abs=0.015)


def test_published_dropout_of_everything_is_0_not_nan() -> None:
    code = torch.ones(2, 4, 3)
    options = LatentMasks(scheme="dropout", published_dropout=True, p=1.0)
    assert not options.build(draw(code, options), code, None).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_masks_follow_the_dtype_of_the_code_and_mark_the_same_features(dtype: torch.dtype) -> None:
    code, gradient = example(3, (4, 4))
    gradient = gradient.to(torch.bfloat16).float()
    options = LatentMasks()
    choice = draw(code, options)
    mask = options.build(choice, code.to(dtype), gradient.to(dtype))
    expected = options.build(choice, code, gradient)
    assert apply_mask(code.to(dtype), mask).dtype == mask.dtype == dtype
    assert torch.equal(mask != 1, expected != 1)


def test_masks_work_under_autocast() -> None:
    code, gradient = example(3, (4, 4))
    options = LatentMasks()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mask = options.build(draw(code, options), code.bfloat16(), gradient.bfloat16())
        assert apply_mask(code.bfloat16(), mask).dtype == torch.bfloat16


def test_a_mask_carries_no_gradient_but_passes_the_codes_on() -> None:
    code, gradient = example(0, (3, 3))
    code.requires_grad_()
    options = LatentMasks(p=1.0)
    mask = options.build(draw(code, options), code, gradient)
    assert not mask.requires_grad
    apply_mask(code, mask).sum().backward()
    torch.testing.assert_close(code.grad, mask.expand_as(code))


def test_nothing_reads_a_value_back_to_the_host() -> None:
    """Tensors on the meta device have no values: reading one raises."""
    code = torch.rand(6, 5, 3, 3)
    for ties in ("exact", "strict"):
        options = LatentMasks(ties=ties)
        choice = draw(code, options).to("meta")
        assert choice.present == {DROPOUT, CHANNEL, SPATIAL}
        mask = options.build(choice, code.to("meta"), code.to("meta"))
        assert mask.shape == code.shape


def test_a_missing_gradient_is_refused_where_it_is_needed() -> None:
    code, _ = example(0, (3, 3))
    options = LatentMasks(scheme="channel")
    with pytest.raises(ValueError, match="need the gradient"):
        options.build(draw(code, options), code, None)


def test_a_choice_for_another_shape_is_refused() -> None:
    code, gradient = example(0, (3, 3))
    options = LatentMasks()
    with pytest.raises(ValueError, match=r"drawn for \(B, C, N\) = \(4, 9, 9\), the code is \(4, 9, 2, 3\)"):
        options.build(draw(code, options), code[:, :, :2], gradient[:, :, :2])


RULES: tuple[Rule, ...] = ("gradient", "saliency", "magnitude", "score")


def code_and_gradient(*spatial: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    code = torch.rand(2, 5, *spatial, generator=generator, dtype=dtype)
    return code, torch.randn(2, 5, *spatial, generator=generator, dtype=dtype)


@pytest.mark.parametrize("spatial", [(7,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("rule", RULES)
def test_scores_are_the_stated_means(rule: Rule, spatial: tuple[int, ...]) -> None:
    code, gradient = code_and_gradient(*spatial)
    z, g = code.numpy(), gradient.numpy()
    value = {"gradient": g, "saliency": -g * z, "magnitude": np.abs(g), "score": g}[rule]
    channel, position = scores(rule, code=code, gradient=gradient)
    np.testing.assert_allclose(channel, value.mean(tuple(range(2, value.ndim))), atol=1e-12)
    np.testing.assert_allclose(position, value.mean(1).reshape(2, -1), atol=1e-12)


def test_half_precision_is_averaged_in_single_precision() -> None:
    code, gradient = code_and_gradient(8, 8, dtype=torch.bfloat16)
    channel, position = scores("gradient", code=code, gradient=gradient)
    assert channel.dtype == position.dtype == torch.float32
    torch.testing.assert_close(channel, gradient.float().mean((2, 3)))


def test_saliency_is_what_a_linear_loss_gains_when_a_channel_goes_to_0() -> None:
    code, weight = code_and_gradient(3, 4)
    channel, _ = scores("saliency", code=code, gradient=weight)
    clean = (code * weight).sum((1, 2, 3))
    for index in range(code.shape[1]):
        masked = code.clone()
        masked[:, index] = 0
        gain = (masked * weight).sum((1, 2, 3)) - clean
        torch.testing.assert_close(gain, channel[:, index] * 12)


def test_decoding_a_masked_code_leaves_no_trace() -> None:
    decoder, code = Decoder(4, 2), torch.rand(3, 16, 2, 2)
    choice = sample_choice(code.shape, torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    gradient = torch.randn_like(code)
    hard = LatentMasks().decode(decoder, [code], [choice], [gradient])
    assert not hard.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    mask = build_mask(choice, code, gradient)
    torch.testing.assert_close(hard, decoder(apply_mask(code, mask)).detach())


def test_rises_are_sums_by_scheme() -> None:
    choice = sample_choice((20, 8, 2, 2), torch.Generator().manual_seed(1))
    clean, hard = torch.rand(20), torch.rand(20)
    found = rise_by_scheme(choice, clean=clean, hard=hard)
    for scheme in range(3):
        mine = choice.scheme == scheme
        expected = torch.stack([clean[mine].sum(), hard[mine].sum(), mine.sum().float()])
        torch.testing.assert_close(found[scheme], expected)


def test_levels_hide_the_same_region() -> None:
    """Positions that are masked in the deepest code are masked above it, with the same factor."""
    masks, generator = LatentMasks(scheme="mixed", skip_dead=False), torch.Generator().manual_seed(3)
    codes = [torch.rand(9, channels, side, side + 2) for channels, side in ((8, 3), (6, 6), (4, 12))]
    gradients = [torch.randn_like(code) for code in codes]
    choices = masks.sample_levels([code.shape for code in codes], generator)
    found = masks.build_levels(choices, codes, list(gradients))
    assert len({tuple(choice.scheme.tolist()) for choice in choices}) == 1
    assert len({tuple(choice.fraction.tolist()) for choice in choices}) == 1
    for sample, scheme in enumerate(choices[0].scheme.tolist()):
        for choice, code, gradient, mask in zip(choices, codes, gradients, found, strict=True):
            mine = mask[sample].expand(code[sample].shape)
            if scheme != SPATIAL:  # as each level by itself
                alone = masks.build(choice, code, gradient)[sample].expand(code[sample].shape)
                assert torch.equal(mine, alone)
                continue
            for row in range(code.shape[2]):
                for column in range(code.shape[3]):
                    deep = row * 3 // code.shape[2], column * 5 // code.shape[3]
                    assert (mine[:, row, column] == found[0][sample, 0, deep[0], deep[1]]).all()
