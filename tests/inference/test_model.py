"""Weights on disk: what is saved comes back, and anything else is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.inference.model import BEST, LAST, find_weights, load_model, save_model
from coopseg.networks.cooperative import Networks

NAMES = ("background", "LV", "MYO", "RV")
Save = Callable[[Path, Settings], str]


def test_what_is_saved_comes_back(
    tmp_path: Path, small_networks: Networks, small_settings: Settings, save_small: Save
) -> None:
    sha256 = save_small(tmp_path, small_settings)
    model = load_model(tmp_path)
    assert (model.settings, model.names, model.sha256) == (small_settings, NAMES, sha256)
    assert model.path == tmp_path / BEST
    stored = model.networks.state_dict()
    for name, value in small_networks.state_dict().items():
        assert torch.equal(stored[name], value), name
    assert not model.networks.training
    assert not any(parameter.requires_grad for parameter in model.networks.parameters())


def test_equal_content_gives_an_equal_hash_and_any_change_another(
    tmp_path: Path, small_networks: Networks, small_settings: Settings
) -> None:
    state = small_networks.state_dict()
    hashes = [save_model(tmp_path / name, state, settings=small_settings, names=NAMES) for name in "ab"]
    assert hashes[0] == hashes[1]
    renamed = save_model(tmp_path / "c", state, settings=small_settings, names=(*NAMES[:3], "other"))
    first = next(iter(state))
    moved = {**state, first: state[first] + 1}
    assert (
        len({hashes[0], renamed, save_model(tmp_path / "d", moved, settings=small_settings, names=NAMES)})
        == 3
    )


def test_best_comes_before_last(tmp_path: Path) -> None:
    (tmp_path / LAST).touch()
    assert find_weights(tmp_path) == tmp_path / LAST
    (tmp_path / BEST).touch()
    assert find_weights(tmp_path) == tmp_path / BEST
    assert find_weights(tmp_path / LAST) == tmp_path / LAST


def test_every_flipped_bit_is_found(tmp_path: Path, small_settings: Settings, save_small: Save) -> None:
    save_small(tmp_path, small_settings)
    file = tmp_path / BEST
    content = file.read_bytes()
    for place in (9, 400, len(content) // 2, len(content) - 1):
        spoiled = bytearray(content)
        spoiled[place] ^= 4
        file.write_bytes(spoiled)
        with pytest.raises(CoopsegError, match=BEST):
            load_model(tmp_path)


def test_refuses_what_is_no_model(tmp_path: Path, small_settings: Settings, save_small: Save) -> None:
    with pytest.raises(CoopsegError, match=r"holds no best\.safetensors; --model takes"):
        load_model(tmp_path)
    with pytest.raises(CoopsegError, match="nowhere: does not exist"):
        load_model(tmp_path / "nowhere")
    file = tmp_path / BEST
    file.write_bytes(b"text")
    with pytest.raises(CoopsegError, match="cannot be read as safetensors"):
        load_model(tmp_path)
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(CoopsegError, match="not a coopseg model"):
        load_model(file)
    save_small(tmp_path, small_settings)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CoopsegError, match="cannot be read as safetensors"):
        load_model(tmp_path)
