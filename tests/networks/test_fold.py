"""Folded networks against the networks that they were folded from, and against the golden values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from coopseg.networks.cooperative import Networks
from coopseg.networks.fold import fold
from coopseg.networks.norm import norms


def make(*, decoupler: bool = True, classes: int = 3, kind: Any = "published") -> Networks:
    """Networks whose norms have statistics, factors and shifts of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        networks = Networks(classes=classes, width=3, decoupler=decoupler, kind=kind).double()
        with torch.no_grad():
            for norm in norms(networks):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
                norm.weight.normal_(1, 0.3)
                norm.bias.normal_()
    return networks.eval()


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("decoupler", [True, False])
@pytest.mark.parametrize(("refinements", "kind"), [(0, "published"), (1, "unet"), (3, "published")])
def test_equal_to_rounding_in_float64(merge: bool, decoupler: bool, refinements: int, kind: str) -> None:
    networks = make(decoupler=decoupler, kind=kind)
    image = torch.rand(2, 1, 32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = networks(image, refinements=refinements, temperature=1.7)
        found = fold(networks, merge=merge)(image, refinements=refinements, temperature=1.7)
    assert list(found) == list(expected)
    for head in expected:
        assert expected[head].std() > 0.1
        torch.testing.assert_close(found[head], expected[head], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_golden(golden: Path, layout: torch.memory_format) -> None:
    networks = Networks(classes=4, width=4)
    networks.load_state_dict(load_file(golden / "weights.safetensors"))
    tensors = load_file(golden / "tensors.safetensors")
    heads = fold(networks.eval()).to(memory_format=layout)(tensors["noisy_image"])  # type: ignore[call-overload]
    for head, name in (("FTN", "eval.ftn_logits"), ("FTN+STN", "eval.stn_logits")):
        expected = tensors[name]
        assert (heads[head] - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_networks_and_what_was_folded_are_independent() -> None:
    networks = make()
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    image = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    folded = fold(networks)
    first = folded(image)["FTN+STN"]
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        for value in networks.state_dict().values():
            value.zero_()
    assert torch.equal(folded(image)["FTN+STN"], first)
    assert not list(folded.parameters())


def test_layers_in_bf16_softmax_in_float32() -> None:
    folded = fold(make().float())
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    full = folded(image)["FTN"]
    half = folded.to(torch.bfloat16)(image)["FTN"]
    assert half.dtype == torch.float32
    apart = (half - full).abs().mean() / full.abs().mean()
    assert 0 < apart < 0.05
