"""An exported file against the networks, read by ONNX Runtime without any code of this package."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import coopseg.inference.export as module
from coopseg.cases.prepare import prepare
from coopseg.config.resolve import resolve_settings
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError
from coopseg.inference.export import export
from coopseg.inference.model import LAST, load_model, save_model
from coopseg.inference.predictor import Predictor
from coopseg.networks.cooperative import Networks
from coopseg.scans.types import Scan

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 48)])
def test_it_gives_what_the_networks_give(
    small_onnx: Path, small_networks: Networks, shape: tuple[int, int, int]
) -> None:
    image = np.random.default_rng(0).random((shape[0], 1, *shape[1:]), np.float32)
    session = onnxruntime.InferenceSession(small_onnx, providers=["CPUExecutionProvider"])
    assert [(entry.name, entry.type) for entry in session.get_inputs()] == [("image", "tensor(float)")]
    assert [entry.name for entry in session.get_outputs()] == ["FTN", "FTN_STN"]
    found = session.run(None, {"image": image})
    with torch.no_grad():
        logits = small_networks(torch.from_numpy(image), temperature=2.0)
    for values, expected in zip(found, logits.values(), strict=True):
        np.testing.assert_allclose(values, expected.softmax(1).numpy(), atol=1e-5)


def test_the_file_is_valid_and_says_what_it_is(small_onnx: Path, small_model: Path) -> None:
    stored = onnx.load(small_onnx)
    onnx.checker.check_model(stored, full_check=True)
    metadata = {entry.key: entry.value for entry in stored.metadata_props}
    model = load_model(small_model)
    assert metadata["weights_sha256"] == model.sha256
    facts = json.loads(metadata["facts"])
    assert facts["names"] == list(model.names)
    assert Settings.model_validate(facts["settings"]) == model.settings
    assert str(Path(__file__).parents[2]).encode() not in small_onnx.read_bytes()


@pytest.mark.slow
def test_every_refinement_and_a_model_without_stn(
    tmp_path: Path, small_model: Path, small_networks: Networks, save_small: Callable[[Path, Settings], str]
) -> None:
    image = torch.rand(1, 1, 32, 32)
    plain = tmp_path / "plain"
    plain.mkdir()
    small = {"network.width": 2, "cases.size": (32, 32)}
    save_small(plain, resolve_settings(preset="lsm2022", overrides=small))
    for name, model, refinements, outputs in (("two", small_model, 2, 2), ("stnless", plain, 1, 1)):
        file = export(model, tmp_path / f"{name}.onnx", refinements=refinements)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        found = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            logits = small_networks(image, refinements=outputs if outputs == 2 else 0)
        assert len(found) == outputs
        last = list(logits.values())[-1].softmax(1).numpy()
        np.testing.assert_allclose(found[-1], last, atol=1e-5)


@pytest.fixture(scope="module")
def with_statistics(
    tmp_path_factory: pytest.TempPathFactory, save_small: Callable[[Path, Settings], str]
) -> tuple[Path, Path]:
    """A run folder with scan statistics, K = 2, and its ONNX file."""
    folder = tmp_path_factory.mktemp("statistics")
    small = {
        "network.width": 2,
        "cases.size": (32, 32),
        "cases.spacing": 3.0,
        "prediction.scan_statistics": 2,
    }
    save_small(folder, resolve_settings(method="cooperative", overrides=small))
    return folder, export(folder, folder / "x.onnx")


@pytest.mark.parametrize("slices", [1, 3, 11])
def test_scan_statistics_are_in_the_file(with_statistics: tuple[Path, Path], slices: int) -> None:
    model, written = map(load_model, with_statistics)
    assert written.settings == model.settings
    case = prepare(make_case_scan(slices), model.settings.cases)
    torched, exported = (Predictor.from_model(m).probabilities(case) for m in (model, written))
    without = Predictor.from_model(model, scan_statistics="off").probabilities(case)
    for head in torched:
        np.testing.assert_allclose(exported[head], torched[head], atol=1e-5)
    assert np.abs(without["FTN"] - torched["FTN"]).max() > 1e-3


def test_a_unet_is_exported_with_its_skip_connections(tmp_path: Path) -> None:
    small = {"network.width": 2, "network.kind": "unet", "cases.size": (32, 32), "losses.stn": False}
    settings = resolve_settings(method="standard", overrides=small)
    torch.manual_seed(3)
    networks = Networks(classes=4, **dict(settings.network)).eval()
    save_model(tmp_path / LAST, networks.state_dict(), settings=settings, names=("background", *"ABC"))
    session = onnxruntime.InferenceSession(
        export(tmp_path, tmp_path / "x.onnx"), providers=["CPUExecutionProvider"]
    )
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = networks.fast(image).softmax(1)
        code, *skips = networks.encode(image)[1:]
        without = networks.segmentation_decoder(code, *map(torch.zeros_like, skips)).softmax(1)
    np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], expected.numpy(), atol=1e-5)
    assert (without - expected).abs().max() > 1e-2


def test_a_file_keeps_the_scan_statistics_that_it_was_exported_with(
    with_statistics: tuple[Path, Path], small_onnx: Path
) -> None:
    _, file = with_statistics
    assert load_model(file).settings.prediction.scan_statistics == 2
    Predictor.from_model(load_model(file), scan_statistics="2")
    for path, wanted, said in ((file, "off", "K = 2, off"), (small_onnx, 2, "off, K = 2")):
        with pytest.raises(CoopsegError, match=f"exported with scan statistics {said} is asked for; leave"):
            Predictor.from_model(load_model(path), scan_statistics=wanted)


def make_case_scan(slices: int) -> Scan:
    return Scan(np.random.default_rng(0).random((40, 40, slices), np.float32), np.diag([2.0, 2, 9, 1]), None)


def test_a_file_that_disagrees_is_not_written(
    tmp_path: Path, small_model: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx.load(small_onnx)
    for weight in graph.graph.initializer:
        if len(weight.dims) == 4:
            weight.raw_data = (1.01 * onnx.numpy_helper.to_array(weight)).astype(np.float32).tobytes()
    monkeypatch.setattr(module, "_convert", lambda *_: graph.SerializeToString())
    with pytest.raises(CoopsegError, match=r"x\.onnx: not written, ONNX Runtime and PyTorch differ by 0\.0"):
        export(small_model, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_refused(tmp_path: Path, small_model: Path, small_onnx: Path) -> None:
    (tmp_path / "there.onnx").touch()
    for model, out, arguments, message in (
        (small_model, "x.pt", {}, r"x\.pt: --out takes the file to write, NAME\.onnx"),
        (small_model, "there.onnx", {}, r"there\.onnx: exists already"),
        (small_model, "x.onnx", {"refinements": -1}, "refinements must be 0 or more"),
        (small_onnx, "x.onnx", {}, "is an ONNX file already; give the run folder"),
        (tmp_path / "nothing", "x.onnx", {}, "nothing: does not exist"),
    ):
        with pytest.raises(CoopsegError, match=message):
            export(model, tmp_path / out, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


def test_without_the_extra(tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(CoopsegError, match=r'ONNX is not installed; pip install "coopseg\[onnx\]"'):
        export(small_model, tmp_path / "x.onnx")
