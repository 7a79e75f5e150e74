"""Weight files that can be checked, and the device that is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.inference.model import (
    BEST,
    LAST,
    choose_device,
    choose_dtype,
    find_weights,
    load_model,
    save_model,
    store_calibration,
    usable_devices,
)
from coopseg.inference.predict import SUFFIX
from coopseg.networks.cooperative import Networks
from coopseg.quality.calibration import Calibration

NAMES = ("background", "LV", "MYO", "RV")
Save = Callable[[Path, Settings], str]


def test_what_is_saved_comes_back(
    tmp_path: Path, small_networks: Networks, small_settings: Settings, save_small: Save
) -> None:
    sha256 = save_small(tmp_path, small_settings)
    model: Any = load_model(tmp_path)
    assert (model.settings, model.names, model.sha256) == (small_settings, NAMES, sha256)
    assert model.path == tmp_path / LAST
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


def test_equal_content_is_equal_bytes(tmp_path: Path, small_settings: Settings, save_small: Save) -> None:
    """So that a copy, or a training done twice, can be compared as a file."""
    written = []
    for name in "abcdef":  # the metadata would come in any of six orders
        save_small(tmp_path / name, small_settings)
        written.append((tmp_path / name / LAST).read_bytes())
    assert len(set(written)) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, small_networks: Networks, small_settings: Settings, value: float
) -> None:
    """Their label maps would be of one class, and look like a result."""
    state = {name: tensor.clone() for name, tensor in small_networks.state_dict().items()}
    name = [name for name, tensor in state.items() if tensor.is_floating_point()][-1]
    state[name].view(-1)[-1] = value
    save_model(tmp_path / LAST, state, settings=small_settings, names=NAMES)
    with pytest.raises(
        CoopsegError, match=rf"{LAST}: the weight '{name}' holds NaN or infinity; train again"
    ):
        load_model(tmp_path)


def test_a_folder_means_its_last_weights_and_a_best_file_only_itself(tmp_path: Path) -> None:
    for name in BEST.values():
        (tmp_path / name).touch()
    with pytest.raises(CoopsegError, match=r"holds no last\.safetensors"):
        find_weights(tmp_path)
    (tmp_path / LAST).touch()
    assert find_weights(tmp_path) == tmp_path / LAST
    assert [find_weights(tmp_path / name).name for name in BEST.values()] == list(BEST.values())


def test_best_files_are_called_after_their_heads_as_label_maps_are() -> None:
    assert {head: f"best{suffix}.safetensors" for head, suffix in SUFFIX.items()} == BEST


def test_every_flipped_bit_is_found(tmp_path: Path, small_settings: Settings, save_small: Save) -> None:
    save_small(tmp_path, small_settings)
    file = tmp_path / LAST
    content = file.read_bytes()
    for place in (9, 400, len(content) // 2, len(content) - 1):
        spoiled = bytearray(content)
        spoiled[place] ^= 4
        file.write_bytes(spoiled)
        with pytest.raises(CoopsegError, match=LAST):
            load_model(tmp_path)


def test_refuses_what_is_no_model(tmp_path: Path, small_settings: Settings, save_small: Save) -> None:
    with pytest.raises(CoopsegError, match=r"holds no last\.safetensors; --model takes"):
        load_model(tmp_path)
    with pytest.raises(CoopsegError, match="nowhere: does not exist"):
        load_model(tmp_path / "nowhere")
    file = tmp_path / LAST
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


def test_the_fastest_is_taken_and_the_cpu_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert usable_devices() == ("cpu",)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(CoopsegError, match="device 'cuda' is not available here; usable: auto, cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_precision() -> None:
    assert choose_dtype("32") == torch.float32
    assert choose_dtype("bf16") == torch.bfloat16
    with pytest.raises(CoopsegError, match="precision '16' is not known; use 32 or bf16"):
        choose_dtype("16")


def test_a_calibration_is_stored_beside_the_weights_and_changes_nothing_else(
    tmp_path: Path, small_settings: Settings, save_small: Save, made_calibration: Calibration
) -> None:
    sha256 = save_small(tmp_path, small_settings)
    bare: Any = load_model(tmp_path)
    store_calibration(tmp_path / LAST, made_calibration)
    model: Any = load_model(tmp_path)
    assert (bare.calibration, model.calibration, model.sha256) == (None, made_calibration, sha256)
    stored = model.networks.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in bare.networks.state_dict().items())
    again = made_calibration.model_copy(update={"limit": 0.5})
    store_calibration(tmp_path / LAST, again)
    assert load_model(tmp_path).calibration == again


@pytest.mark.parametrize(("old", "new"), [(b"limit", b"limjt"), (b"made up", b"made uq")])
def test_a_damaged_calibration_is_refused(
    tmp_path: Path,
    small_settings: Settings,
    save_small: Save,
    made_calibration: Calibration,
    old: bytes,
    new: bytes,
) -> None:
    save_small(tmp_path, small_settings)
    store_calibration(tmp_path / LAST, made_calibration)
    content = (tmp_path / LAST).read_bytes()
    assert content.count(old) == 1
    (tmp_path / LAST).write_bytes(content.replace(old, new))
    with pytest.raises(CoopsegError, match=r"its calibration cannot be used \(its SHA-256 is another\)"):
        load_model(tmp_path)


def test_a_calibration_of_other_classes_is_refused(
    tmp_path: Path, small_settings: Settings, save_small: Save, made_calibration: Calibration
) -> None:
    save_small(tmp_path, small_settings)
    lines = {name.lower(): line for name, line in made_calibration.lines.items()}
    store_calibration(tmp_path / LAST, made_calibration.model_copy(update={"lines": lines}))
    with pytest.raises(CoopsegError, match="it is of the classes lv, myo, rv"):
        load_model(tmp_path)
