"""The five networks against the golden values and the published parameter counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from coopseg.errors import CoopsegError
from coopseg.networks.cooperative import NETWORKS, Networks


@pytest.fixture
def networks(golden: Path) -> Networks:
    networks = Networks(classes=4, width=4)
    networks.load_state_dict(load_file(golden / "weights.safetensors"), strict=True)
    return networks


@pytest.fixture
def tensors(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "tensors.safetensors")


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_golden_evaluation_mode(
    networks: Networks, tensors: dict[str, Tensor], layout: torch.memory_format
) -> None:
    networks.eval().to(memory_format=layout)  # type: ignore[call-overload]
    with torch.no_grad():
        z_i, z_s = networks.encode(tensors["noisy_image"])
        heads = networks(tensors["noisy_image"])
        close(z_i, tensors["eval.z_i"])
        close(z_s, tensors["eval.z_s"])
        close(heads["FTN"], tensors["eval.ftn_logits"])
        close(heads["FTN+STN"], tensors["eval.stn_logits"])
        close(networks.image_decoder(z_i), tensors["eval.reconstruction"])


def test_golden_training_mode(networks: Networks, tensors: dict[str, Tensor]) -> None:
    networks.train()
    z_i, z_s = networks.encode(tensors["noisy_image"])
    close(z_i, tensors["train.z_i"])
    close(z_s, tensors["train.z_s"])


def test_published_parameter_counts() -> None:
    networks = Networks(classes=4)
    counts = [sum(p.numel() for p in getattr(networks, name).parameters()) for name in NETWORKS]
    assert counts == [1_125_888, 161_732, 248_961, 830_640, 161_732]


@pytest.mark.parametrize("kind", ["published", "unet"])
def test_code_shapes_are_those_of_the_codes(kind: Any) -> None:
    networks = Networks(classes=3, width=2, kind=kind)
    found = networks.encode(torch.rand(2, 1, 32, 64))
    assert [tuple(code.shape) for code in found] == networks.code_shapes((2, 1, 32, 64))


def test_a_unet_reads_quarter_and_eighth_resolution_and_nothing_finer() -> None:
    networks = Networks(classes=3, width=2, kind="unet").eval()
    _, z_s, *skips = networks.encode(torch.rand(1, 1, 64, 64))
    assert [skip.shape[2] for skip in skips] == [8, 16]
    none = [torch.zeros_like(code) for code in (z_s, *skips)]
    for place, code in enumerate((z_s, *skips)):
        heard = [*none[:place], code, *none[place + 1 :]]
        assert not torch.equal(networks.segmentation_decoder(*heard), networks.segmentation_decoder(*none))


def test_initialisation_is_the_published_one() -> None:
    torch.manual_seed(0)
    networks = Networks(classes=4)
    weight = networks.image_encoder.down4.conv2.weight.detach()
    assert weight.std() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert networks.image_encoder.down4.norm1.weight.detach().std() == pytest.approx(0.02, rel=0.3)
    assert networks.segmentation_decoder.out.bias is not None
    assert networks.segmentation_decoder.out.bias.abs().max() == 0


@pytest.mark.parametrize(("width", "classes", "channels"), [(3, 2, 1), (5, 7, 3)])
def test_any_width_classes_channels(width: int, classes: int, channels: int) -> None:
    networks = Networks(classes=classes, width=width, channels=channels).eval()
    heads = networks(torch.rand(2, channels, 32, 48), refinements=2)
    assert heads["FTN"].shape == heads["FTN+STN"].shape == (2, classes, 32, 48)


def test_two_refinements_are_one_refinement_of_the_first(
    networks: Networks, tensors: dict[str, Tensor]
) -> None:
    networks.eval()
    with torch.no_grad():
        once = networks(tensors["image"])["FTN+STN"]
        twice = networks(tensors["image"], refinements=2)["FTN+STN"]
        torch.testing.assert_close(twice, networks.refine(torch.softmax(once / 2, 1)))
    assert not torch.allclose(once, twice)


def test_a_size_that_cannot_be_halved_is_refused(networks: Networks) -> None:
    with pytest.raises(CoopsegError, match="multiples of 16"):
        networks.encode(torch.rand(1, 1, 40, 48))
