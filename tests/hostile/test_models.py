"""Weight files that are not what they say: refused, nothing in them run, no memory taken on their word."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from models_in_danger import FORGERIES, TEXTS, edit_header, forge, joined, narrow, parts, pickles, with_facts
from numpy.random import default_rng

from coopseg.errors import CoopsegError
from coopseg.inference.model import load_model


def damaged(content: bytes) -> dict[str, bytes]:
    """Kinds of damage."""
    header, tensors = parts(content)
    metadata = header["__metadata__"]
    bit = bytearray(content)
    bit[-7] ^= 1
    return {
        "empty": b"",
        "truncated": content[:-10],
        "longer": content + b"\0",
        "one bit of a weight": bytes(bit),
        "another hash": joined({**header, "__metadata__": {**metadata, "sha256": "0" * 64}}, tensors),
        "no hash": joined(
            {**header, "__metadata__": {"format": "coopseg-1", "facts": metadata["facts"]}}, tensors
        ),
        "no facts": joined({**header, "__metadata__": {"format": "coopseg-1", "sha256": "0"}}, tensors),
        "no metadata": joined({name: header[name] for name in header if name != "__metadata__"}, tensors),
        "metadata that is a list": joined({**header, "__metadata__": [1]}, tensors),
        "long metadata": joined({**header, "__metadata__": {**metadata, "format": "y" * 2**20}}, tensors),
        "a header of 2 ** 60 bytes": struct.pack("<Q", 2**60) + content[8:],
        "bfloat16": narrow(content, default_rng(0)),
        **{f"edited {seed}": edit_header(content, default_rng(seed)) for seed in range(12)},
    }  # fmt: skip


def test_damage(refuses: Callable[..., str], model: Path, data: Path, model_bytes: bytes) -> None:
    file = model / "last.safetensors"
    for content in damaged(model_bytes).values():
        file.write_bytes(content)
        refuses("predict", "--model", model, data / "images", parts=(file,))
    refuses("evaluate", "--model", file, "--data", data, parts=(file,))


@pytest.mark.parametrize("name", ["last.safetensors", "weights.pt"])
def test_pickles_are_not_run(
    refuses: Callable[..., str], model: Path, data: Path, tmp_path: Path, name: str
) -> None:
    (model / "last.safetensors").unlink()
    for content in pickles(tmp_path / "trap"):
        (model / name).write_bytes(content)
        given = model / name if name.endswith(".pt") else model
        refuses("predict", "--model", given, data / "images", parts=(model / name, "safetensors"))
        refuses("evaluate", "--model", given, "--data", data, parts=(model / name, "safetensors"))
    assert not (tmp_path / "trap").exists()


def test_a_trap_works(tmp_path: Path) -> None:
    """The pickles above do run code where they are loaded."""
    (tmp_path / "x.pkl").write_bytes(pickles(tmp_path / "trap")[0])
    load = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", load, str(tmp_path / "x.pkl")], check=True)
    assert (tmp_path / "trap").exists()


@pytest.mark.parametrize("kind", FORGERIES)
def test_facts_that_do_not_fit_under_a_hash_that_does(
    refuses: Callable[..., str], model: Path, data: Path, model_bytes: bytes, kind: str
) -> None:
    file = model / "last.safetensors"
    file.write_bytes(forge(model_bytes, FORGERIES[kind]))
    tracemalloc.start()
    refuses("predict", "--model", model, data / "images", parts=(file, "train again"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def test_facts_that_are_no_facts(tmp_path: Path, model_bytes: bytes) -> None:
    for text in TEXTS:
        (tmp_path / "x").write_bytes(with_facts(*parts(model_bytes), text))
        with pytest.raises(CoopsegError, match="cannot be used") as refusal:
            load_model(tmp_path / "x")
        assert str(refusal.value).isprintable()


def test_the_same_facts_under_a_new_hash_are_accepted(tmp_path: Path, model_bytes: bytes) -> None:
    """So that the forgeries above are refused for what they say, not for how they are made."""
    (tmp_path / "x").write_bytes(forge(model_bytes, lambda facts: None))
    assert load_model(tmp_path / "x").names[0] == "background"


RECORDS = (
    "", "{", "[" * 10**5, "null", "\xff", "9" * 5000, '{"split": 3}',
    '{"split": {"name": "x", "train": "ab"}}',
    '{"split": {"name": "x", "train": [1], "validate": [], "test": []}}',
    '{"split": {"name": "x", "train": ["a"], "validate": ["a"], "test": []}}',
)  # fmt: skip


@pytest.mark.parametrize("content", RECORDS)
def test_a_record_of_training_that_is_none(
    refuses: Callable[..., str], model: Path, data: Path, content: str
) -> None:
    record = model / "run.json"
    record.write_bytes(content.encode("latin-1"))
    refuses("evaluate", "--model", model, "--data", data, parts=(record, "folder of a finished training"))
    refuses("corrupt", "--data", data, "--split", model, parts=(record, "folder of a finished training"))


def test_a_folder_in_the_place_of_the_record(refuses: Callable[..., str], model: Path, data: Path) -> None:
    (model / "run.json").mkdir()
    refuses("corrupt", "--data", data, "--split", model, parts=(model / "run.json", "finished training"))


def test_a_hundred_thousand_patients_take_no_time(
    model: Path, data: Path, coopseg: Callable[..., Any]
) -> None:
    names = [f"q{index}" for index in range(100_000)]
    parts = {"name": "x", "train": [*names, "q0"], "validate": ["v"], "test": ["t"]}
    (model / "run.json").write_text(json.dumps({"split": parts}))
    before = os.times().user
    assert coopseg("corrupt", "--data", data, "--split", model, "--out", model / "out").exit_code == 2
    assert os.times().user - before < 5
