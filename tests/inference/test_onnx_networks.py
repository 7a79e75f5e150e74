"""ONNX files as models: the same label maps as from PyTorch, and anything else refused in one line."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from coopseg.errors import CoopsegError
from coopseg.inference.model import load_model
from coopseg.inference.onnx_networks import OnnxNetworks, seal
from coopseg.inference.predict import load_predictor, predict
from coopseg.inference.predictor import Predictor
from coopseg.networks.cooperative import Networks
from coopseg.scans.nifti import read_labels, write_image
from coopseg.scans.types import Scan

onnx = pytest.importorskip("onnx")
MakeScan = Callable[..., Scan]


def test_the_model_is_the_one_that_was_exported(small_onnx: Path, small_model: Path) -> None:
    found, expected = load_model(small_onnx), load_model(small_model)
    assert isinstance(found.networks, OnnxNetworks)
    assert (found.settings, found.names, found.sha256) == (expected.settings, expected.names, expected.sha256)
    assert found.path == small_onnx


def test_probabilities_and_label_maps(
    small_onnx: Path, small_networks: Networks, make_scan: MakeScan
) -> None:
    scan = make_scan(40, 50, 9)
    model = load_model(small_onnx)
    found = Predictor.from_model(model)
    expected = Predictor(small_networks, model.settings)
    assert found.heads == expected.heads == ("FTN", "FTN+STN")
    for head, labels in expected(scan).items():
        assert len(np.unique(labels)) > 1
        assert (found(scan)[head] != labels).mean() < 1e-3
    assert tuple(Predictor.from_model(model, refinements=0)(scan)) == ("FTN",)


def test_predict(small_onnx: Path, small_model: Path, tmp_path: Path, make_scan: MakeScan) -> None:
    scan = make_scan(30, 20, 3)
    write_image(tmp_path / "x.nii.gz", scan.data, affine=scan.affine)
    maps = [
        read_labels(predict(model, tmp_path / "x.nii.gz", tmp_path / name, head="FTN")[0]).data
        for name, model in (("a", small_onnx), ("b", small_model))
    ]
    assert (maps[0] != maps[1]).mean() < 1e-3
    record = json.loads((tmp_path / "a" / "predict.json").read_text())
    assert record["device"] == "cpu"
    assert record["model"]["path"] == str(small_onnx)


def test_what_the_file_cannot_do(small_onnx: Path) -> None:
    for arguments, message in (
        (
            {"refinements": 2},
            "applies the STN 1 times, 2 are asked for; use --refine 0 or 1, or export",
        ),
        ({"precision": "bf16"}, "computes in float32; leave --precision out"),
        (
            {"scan_statistics": 6},
            r"small\.onnx: exported with scan statistics off, K = 6 is asked for; leave",
        ),
        ({"precision": "16"}, "precision '16' is not known"),
    ):
        with pytest.raises(CoopsegError, match=message):
            load_predictor(small_onnx, **arguments)
    with pytest.raises(CoopsegError, match="run on the processor; use device cpu, or the run folder"):
        load_model(small_onnx, "cuda")


def test_every_flipped_bit_is_found(small_onnx: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"
    content = small_onnx.read_bytes()
    for place in (0, 100, len(content) // 2, len(content) - 100, len(content) - 70, len(content) - 1):
        spoiled = bytearray(content)
        spoiled[place] ^= 4
        file.write_bytes(spoiled)
        with pytest.raises(CoopsegError, match=r"x\.onnx: (damaged|not an ONNX file by coopseg)"):
            load_model(file)


def test_what_is_no_exported_model(small_onnx: Path, tmp_path: Path) -> None:
    content = small_onnx.read_bytes()
    body = content[: -len(seal(b""))]
    assert seal(body) == content
    assert content[-64:] == hashlib.sha256(body).hexdigest().encode()
    foreign = onnx.ModelProto(ir_version=10).SerializeToString()
    strange = onnx.ModelProto.FromString(body)
    next(entry for entry in strange.metadata_props if entry.key == "format").value = "coopseg-onnx-9"
    file = tmp_path / "x.onnx"
    for given, message in (
        (b"", "not an ONNX file by coopseg, or cut off; write one with `coopseg export`"),
        (foreign, "not an ONNX file by coopseg"),
        (content[:-1], "not an ONNX file by coopseg, or cut off"),
        (seal(foreign), "ONNX Runtime refuses it"),
        (seal(b"text"), "ONNX Runtime refuses it"),
        (seal(strange.SerializeToString()), "format 'coopseg-onnx-9' is not known"),
    ):
        file.write_bytes(given)
        with pytest.raises(CoopsegError, match=message):
            load_model(file)
    with pytest.raises(CoopsegError, match=r"y\.onnx: does not exist"):
        load_model(tmp_path / "y.onnx")


def test_without_the_extra(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CoopsegError, match=r'ONNX Runtime is not installed; pip install "coopseg\[onnx\]"'):
        load_model(small_onnx)


def test_the_session_has_the_threads_of_torch(small_onnx: Path) -> None:
    networks = load_model(small_onnx).networks
    assert isinstance(networks, OnnxNetworks)
    assert networks.session.get_session_options().intra_op_num_threads == torch.get_num_threads()
