"""Transforms in a pipeline of MONAI: as alone, with MONAI's seeds, types and keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.utils.misc import set_determinism

from coopseg.errors import CoopsegError
from coopseg.transforms import GIN, BigAug, MixUp
from coopseg.transforms.monai import DictTransform


def sample() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 32, 32, generator=generator)
    label = torch.randint(3, (1, 32, 32), generator=generator).float()
    return {"image": MetaTensor(image, meta={"name": "p1"}), "label": label, "other": "kept"}


def test_it_is_the_transform_with_the_seed_that_monai_draws() -> None:
    made, again = DictTransform(BigAug(p=1.0)), DictTransform(BigAug(p=1.0))
    for each in (made, again):
        each.set_random_state(3)
    found = made(sample())
    again.randomize(None)
    generator = torch.Generator().manual_seed(int(again.R.randint(2**31)))
    before = sample()
    image, label = BigAug(p=1.0)(before["image"].as_tensor()[None], before["label"].long(), generator)
    torch.testing.assert_close(found["image"].as_tensor(), image[0])
    torch.testing.assert_close(found["label"], label.float())
    assert isinstance(found["image"], MetaTensor)
    assert found["image"].meta["name"] == "p1"
    assert found["other"] == "kept"


def test_a_pipeline_follows_set_determinism() -> None:
    results = []
    for _ in range(2):
        set_determinism(5)
        pipeline = Compose([DictTransform(GIN(), prob=0.5)])
        results.append([pipeline(sample())["image"].as_tensor() for _ in range(8)])
    set_determinism(None)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    left = [torch.equal(image, sample()["image"].as_tensor()) for image in results[0]]
    assert 0 < sum(left) < 8  # applied to some


def test_what_needs_a_batch_is_refused() -> None:
    with pytest.raises(CoopsegError, match="behind the loader"):
        DictTransform(MixUp(3))
