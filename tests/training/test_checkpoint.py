"""A checkpoint is what was saved, or it is refused; nothing in it is executed."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from coopseg.errors import CoopsegError
from coopseg.training.checkpoint import MAGIC, load_checkpoint, save_checkpoint

STATE: dict[str, Any] = {
    "step": 3,
    "weights": {"a": torch.arange(6.0).reshape(2, 3)},
    "batches": [("p1", "p2")],
    "none": None,
}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", STATE)
    loaded: Any = load_checkpoint(tmp_path / "c")
    assert loaded.keys() == STATE.keys()
    assert torch.equal(loaded["weights"]["a"], STATE["weights"]["a"])
    assert (loaded["step"], loaded["batches"], loaded["none"]) == (3, [("p1", "p2")], None)


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "c") is None


def test_the_layout_of_memory_is_kept(tmp_path: Path) -> None:
    """Else Adam's averages would come back in another order than the weights, and every step be slower."""
    moved = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "c", {"x": moved})
    again: Any = load_checkpoint(tmp_path / "c")
    assert again["x"].stride() == moved.stride()


@pytest.mark.parametrize("seed", range(40))
def test_any_flipped_bit_and_any_cut_is_found(tmp_path: Path, seed: int) -> None:
    path, draw = tmp_path / "c", random.Random(seed)
    save_checkpoint(path, STATE)
    content = bytearray(path.read_bytes())
    if seed % 4:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    else:
        del content[draw.randrange(len(content)) :]
    path.write_bytes(content)
    with pytest.raises(CoopsegError, match=r"not a coopseg checkpoint|damaged"):
        load_checkpoint(path)


class Evil:
    """Would make a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_is_never_run_even_under_a_right_hash(tmp_path: Path) -> None:
    content = pickle.dumps(Evil(tmp_path / "made"), protocol=2)
    (tmp_path / "c").write_bytes(MAGIC + hashlib.sha256(content).digest() + content)
    with pytest.raises(CoopsegError, match="holds more than tensors"):
        load_checkpoint(tmp_path / "c")
    assert not (tmp_path / "made").exists()
