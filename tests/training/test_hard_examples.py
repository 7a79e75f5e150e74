"""Pictures of hard examples: what they hold, and that keeping them leaves the training alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coopseg.config.methods import METHODS
from coopseg.config.resolve import resolve_settings
from coopseg.latent.choice import SCHEMES
from coopseg.networks.cooperative import Networks
from coopseg.training.batches import SliceStore
from coopseg.training.hard_examples import BATCH, SHOWN, moments, write_hard_examples
from coopseg.training.step import CooperativeStep


def make_step(method: str = "cooperative", **settings: Any) -> Any:
    resolved = resolve_settings(method=method, overrides={"network.width": 2, **settings})
    torch.manual_seed(0)
    return CooperativeStep(Networks(classes=3, **dict(resolved.network)), resolved)


@pytest.fixture
def store() -> SliceStore:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(10, 1, 32, 32, generator=generator)
    labels = torch.zeros(10, 32, 32, dtype=torch.int64)
    for index in range(10):
        labels[index, : index % 5 + 1] = 1 + index % 2
    return SliceStore.of_crops(images, labels, tuple(map(str, range(10))))


def written(tmp_path: Path, step: CooperativeStep, store: SliceStore) -> dict[str, np.ndarray]:
    write_hard_examples(tmp_path, 7, step, store)
    with np.load(tmp_path / "step000007.npz", allow_pickle=False) as file:
        return dict(file)


def test_every_scheme_of_both_codes_is_there(tmp_path: Path, store: SliceStore) -> None:
    arrays = written(tmp_path, make_step(), store)
    codes = {f"{code}_{scheme}" for code in ("image", "shape") for scheme in SCHEMES}
    assert set(arrays) == {"image", "label", "reconstruction", "prediction"} | codes
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (np.dtype(np.uint8), (SHOWN, 32, 32)), name
        if name == "label" or name.startswith(("shape", "prediction")):
            assert array.max() < 3


def test_the_slices_are_those_with_most_foreground(tmp_path: Path, store: SliceStore) -> None:
    arrays = written(tmp_path, make_step(), store)
    bounds = np.linspace(0, 10, BATCH + 1).astype(int)
    images, _ = store.plain(torch.arange(10))
    for index in range(SHOWN):
        areas = (store.labels[bounds[index] : bounds[index + 1]] > 0).sum((1, 2))
        chosen = bounds[index] + int(areas.argmax())
        assert np.array_equal(arrays["label"][index], store.labels[chosen])
        assert np.abs(arrays["image"][index] / 255 - images[chosen, 0].numpy()).max() <= 0.5 / 255 + 1e-6


def test_masks_change_what_is_decoded_and_the_share_matters(tmp_path: Path, store: SliceStore) -> None:
    arrays = written(tmp_path, make_step(), store)
    for scheme in SCHEMES:
        assert (arrays[f"image_{scheme}"] != arrays["reconstruction"]).any()
    nothing = written(tmp_path, make_step("cooperative", **{"latent.p": 0.0}), store)
    for scheme in SCHEMES:
        assert (nothing[f"image_{scheme}"] == nothing["reconstruction"]).all()
        assert (nothing[f"shape_{scheme}"] == nothing["prediction"]).all()


@pytest.mark.parametrize("method", METHODS)
def test_only_what_the_method_masks(tmp_path: Path, store: SliceStore, method: str) -> None:
    step = make_step(method)
    latent = step.settings.latent
    arrays = written(tmp_path, step, store)
    assert ("image_channel" in arrays) == latent.image
    assert ("shape_channel" in arrays) == latent.shape


def test_the_networks_are_left_as_they_were(tmp_path: Path, store: SliceStore) -> None:
    step = make_step()
    before = {name: value.clone() for name, value in step.networks.state_dict().items()}
    random = torch.get_rng_state()
    write_hard_examples(tmp_path, 1, step, store)
    assert all(torch.equal(before[name], value) for name, value in step.networks.state_dict().items())
    assert all(parameter.grad is None for parameter in step.networks.parameters())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(("steps", "expected"), [(600, (60, 300, 600)), (1, (1, 1, 1)), (2, (1, 1, 2))])
def test_moments(steps: int, expected: tuple[int, int, int]) -> None:
    assert moments(steps) == expected
