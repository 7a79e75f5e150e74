"""Packed networks against folded ones, where oneDNN is there and where it is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from coopseg.inference.onednn import Packed, PackedUpsampling, pack, usable
from coopseg.networks.cooperative import Networks
from coopseg.networks.fold import Convolution, fold

fused = pytest.mark.skipif(not usable(torch.float32), reason="this torch has no fused convolutions of oneDNN")


@fused
@pytest.mark.parametrize("size", [(1, 32, 32), (3, 48, 16)])
def test_the_same_to_rounding(small_networks: Networks, size: tuple[int, int, int]) -> None:
    image = torch.rand(size[0], 1, *size[1:], generator=torch.Generator().manual_seed(0))
    expected = fold(small_networks)(image, refinements=2)
    packed = pack(fold(small_networks))
    assert not any(isinstance(module, Convolution) for module in packed.modules())
    for head, values in packed(image, refinements=2).items():
        torch.testing.assert_close(values, expected[head], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not usable(torch.bfloat16), reason="this processor has no bf16")
def test_bf16(small_networks: Networks) -> None:
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = fold(small_networks)(image)["FTN"]
    found = pack(fold(small_networks).to(torch.bfloat16))(image)["FTN"]
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().mean() / expected.abs().mean() < 0.05


def other_arguments(x: torch.Tensor) -> torch.Tensor:
    """An operator of another torch."""
    return x


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (torch.backends.mkldnn, "is_available", lambda: False),
        (torch.ops, "mkldnn", object()),
        (torch.ops.mkldnn, "_convolution_pointwise_", other_arguments),
    ],
)
def test_where_it_does_not_work_networks_stay_as_folded(
    small_networks: Networks, monkeypatch: pytest.MonkeyPatch, place: object, name: str, value: object
) -> None:
    image = torch.rand(1, 1, 32, 32)
    monkeypatch.setattr(place, name, value)
    assert not usable(torch.float32)
    networks = pack(fold(small_networks))
    assert not any(isinstance(module, Packed | PackedUpsampling) for module in networks.modules())
    assert torch.equal(networks(image)["FTN"], fold(small_networks)(image)["FTN"])


def test_not_for_other_types() -> None:
    assert not usable(torch.float64)
    assert not usable(torch.float16)


@fused
@torch.inference_mode()
def test_several_threads_at_once(small_networks: Networks) -> None:
    packed = pack(fold(small_networks))
    images = [torch.rand(2, 1, 32, 32) for _ in range(8)]
    expected = [packed(image)["FTN+STN"] for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: packed(image)["FTN+STN"], images))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
