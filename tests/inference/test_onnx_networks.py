"""ONNX files as models: the same label maps as from PyTorch, and anything else refused in one line."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coopseg.errors import CoopsegError
from coopseg.inference.model import load_model
from coopseg.inference.onnx_networks import OnnxNetworks, seal
from coopseg.inference.predict import predict
from coopseg.inference.predictor import Predictor, load_predictor
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
        (seal(foreign), "format None is not known"),
        (seal(b"text"), "holds no ONNX graph"),
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


def rebuilt(content: bytes, change: Callable[[Any], None]) -> bytes:
    """A sealed file with another graph."""
    model = onnx.ModelProto.FromString(content[: -len(seal(b""))])
    change(model)
    return seal(model.SerializeToString())


def loop_for_ever(model: Any) -> None:
    make = onnx.helper.make_node
    flag = onnx.helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, [])
    number = onnx.helper.make_tensor_value_info("number", onnx.TensorProto.INT64, [])
    more = onnx.helper.make_tensor_value_info("more", onnx.TensorProto.BOOL, [])
    body = onnx.helper.make_graph([make("Identity", ["on"], ["more"])], "body", [number, flag], [more])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(make("Loop", ["", "yes"], [], body=body))


def repeat(model: Any, shape: list[int], operator: str = "Expand") -> None:
    """Adds an array of a shape that the file names."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape), "huge"))
    inputs = ["huge"] if operator == "ConstantOfShape" else ["FTN", "huge"]
    model.graph.node.append(onnx.helper.make_node(operator, inputs, ["big"]))


def double(model: Any) -> None:
    """Joins an array to itself thirty times: a few bytes each time."""
    names = ["FTN", *(f"twice{number}" for number in range(30))]
    for before, after in pairwise(names):
        model.graph.node.append(onnx.helper.make_node("Concat", [before, before], [after], axis=1))


def square(model: Any) -> None:
    """Makes an array that grows with the square of the number of images."""
    make = onnx.helper.make_node
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 2, 3]), "pick"))
    model.graph.node.extend(
        [
            make("Transpose", ["image"], ["turned"], perm=[1, 0, 2, 3]),
            make("Mul", ["image", "turned"], ["square"]),
        ]
    )


def spoil(model: Any) -> None:
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[-1] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))


def claim(model: Any) -> None:
    """Names a size that the values do not have."""
    model.graph.initializer[0].dims[:] = [2**30, 8]


def elsewhere(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/dev/zero")


def fewer(model: Any) -> None:
    """Gives the probabilities of the FTN without their last class."""
    make = onnx.helper.make_node
    last = next(node for node in model.graph.node if "FTN" in node.output)
    last.output[0] = "all"
    for node in model.graph.node:
        node.input[:] = ["all" if name == "FTN" else name for name in node.input]
    for name, value in (("from", [0]), ("to", [3]), ("along", [1])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    model.graph.node.append(make("Slice", ["all", "from", "to", "along"], ["FTN"]))


def own_domain(model: Any) -> None:
    model.graph.node[0].domain = "com.microsoft"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (loop_for_ever, "holds the operator 'Loop', which no file by coopseg does; export it again"),
        (lambda model: repeat(model, [2**31], "ConstantOfShape"), "the operator 'ConstantOfShape'"),
        (lambda model: repeat(model, [2**21, 4, 32, 32]), r"an array of shape .* \('big'\), which no file"),
        (double, "an array of shape"),
        (square, r"for 65536 images it makes an array of shape \(65536, 65536, 32, 32\) \('square'\)"),
        (spoil, "holds NaN or infinity; train and export again"),
        (claim, "cannot be read"),
        (elsewhere, "holds weights in other files"),
        (fewer, r"gives .*\(1, 3, 32, 32\).* and not \['FTN', 'FTN_STN'\] of shape \(1, 4, 32, 32\)"),
        (own_domain, "holds the operator 'com.microsoft"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_graphs_that_no_export_writes(
    small_onnx: Path, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    """Files with the right seal, which anyone can make: each is refused before anything of it runs."""
    file = tmp_path / "x.onnx"
    file.write_bytes(rebuilt(small_onnx.read_bytes(), change))
    with pytest.raises(CoopsegError, match=message) as refusal:
        load_model(file)
    assert str(refusal.value).startswith(f"{file}: ")
    assert str(refusal.value).isprintable()


def test_the_same_graph_in_a_new_file_is_accepted(small_onnx: Path, tmp_path: Path) -> None:
    """So that the graphs above are refused for what they are, not for how they are made."""
    (tmp_path / "x.onnx").write_bytes(rebuilt(small_onnx.read_bytes(), lambda model: None))
    assert isinstance(load_model(tmp_path / "x.onnx").networks, OnnxNetworks)


def test_nan_that_only_a_run_shows(small_onnx: Path, tmp_path: Path, make_scan: MakeScan) -> None:
    """Finite weights may give NaN: here the square root of less than nothing."""

    def root(model: Any) -> None:
        last = next(node for node in model.graph.node if "FTN" in node.output)
        last.output[0] = "before"
        for node in model.graph.node:
            node.input[:] = ["before" if name == "FTN" else name for name in node.input]
        model.graph.node.extend(
            [
                onnx.helper.make_node("Neg", ["before"], ["below"]),
                onnx.helper.make_node("Sqrt", ["below"], ["FTN"]),
            ]
        )

    file = tmp_path / "x.onnx"
    file.write_bytes(rebuilt(small_onnx.read_bytes(), root))
    predictor = Predictor.from_model(load_model(file))
    with pytest.raises(CoopsegError, match=r"x\.onnx: the probabilities of FTN hold NaN"):
        predictor(make_scan(20, 20, 2))


def test_outputs_of_another_shape_than_the_graph_says(small_onnx: Path) -> None:
    networks = load_model(small_onnx).networks
    assert isinstance(networks, OnnxNetworks)
    networks.classes = 5
    with pytest.raises(CoopsegError, match=r"gives float32 of shape \(1, 4, 32, 32\) in the place of"):
        networks(torch.zeros(1, 1, 32, 32), refinements=0)
    with pytest.raises(CoopsegError, match="ONNX Runtime fails"):
        networks(torch.zeros(1, 2, 32, 32), refinements=0)
