"""Somebody's own network as the FTN: trained, kept, used again, and run only if its code is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coopseg.config.resolve import resolve_settings
from coopseg.config.settings import NetworkSettings
from coopseg.errors import CoopsegError
from coopseg.inference.model import load_model
from coopseg.networks.other import OtherNetworks, make_networks
from coopseg.phantom.write import write_phantom
from coopseg.training.step import CooperativeStep

CODE = """
from torch import nn

def make(channels, classes):
    first = nn.Conv2d(channels, 8, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, classes, 1))
"""
OWN = ("--method=standard", "--set=network.kind=my_network:make", "--set=losses.reconstruction=0")
TINY = (
    "--preset=quick", "--device=cpu", "--set=cases.size=[32,32]", "--set=cases.spacing=8",
    "--set=network.width=2", "--set=training.steps=3",
)  # fmt: skip


def test_a_step_has_the_gradients_of_the_losses_written_out() -> None:
    torch.manual_seed(0)
    settings = resolve_settings(
        method="standard", overrides={"losses.reconstruction": 0, "network.kind": "my_network:make"}
    )
    segmenter = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 1))
    networks = OtherNetworks(segmenter, classes=3, width=2)
    step, generator = CooperativeStep(networks, settings), torch.Generator().manual_seed(0)
    image, label = torch.rand(2, 1, 32, 32), torch.randint(3, (2, 32, 32))
    choice = step.sample(image, generator)
    step.backward(image, label, choice)
    found = [parameter.grad for parameter in segmenter.parameters()]
    noisy = (image + settings.losses.input_noise * choice.noise).clamp(0, 1)
    expected = torch.autograd.grad(
        settings.losses.segmentation * F.cross_entropy(segmenter(noisy), label), list(segmenter.parameters())
    )
    torch.testing.assert_close(found, list(expected))
    assert networks.shape_encoder.stem.conv1.weight.grad is not None


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made-up patients; the current folder has the module of the network."""
    (tmp_path / "my_network.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return write_phantom(tmp_path / "phantom", patients=4, size=48)["acdc"]


def test_it_is_trained_and_used_by_the_verbs(
    coopseg: Callable[..., Any], scans: Path, tmp_path: Path
) -> None:
    run, model = tmp_path / "run", ("--model", tmp_path / "run")
    trained = coopseg("train", "--data", scans, "--out", run, *OWN, *TINY)
    assert trained.exit_code == 0, trained.stderr
    trust = ("--trust", "my_network:make")
    verbs = {
        "predict": (scans / "patientP001", "--device=cpu"),
        "evaluate": ("--data", scans, "--device=cpu", "--workers=1", "--no-pictures"),
    }
    for verb, words in verbs.items():
        refused = coopseg(verb, *model, *words, "--out", tmp_path / "refused")
        assert refused.exit_code == 2
        assert "if you trust it, add --trust my_network:make" in refused.stderr
        done = coopseg(verb, *model, *words, *trust, "--out", tmp_path / verb)
        assert done.exit_code == 0, done.stderr
    exported = coopseg("export", *model, "--out", tmp_path / "x.onnx")
    assert (exported.exit_code, "--trust my_network:make" in exported.stderr) == (2, True)
    loaded = load_model(run, trust=["my_network:make"])
    assert isinstance(loaded.networks, OtherNetworks)
    (run / "run.json").unlink()
    resumed = coopseg("train", "--resume", run)
    assert (resumed.exit_code, "--set network.kind=my_network:make" in resumed.stderr) == (2, True)


def test_monai_s_is_a_method(coopseg: Callable[..., Any], scans: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = coopseg("train", "--data", scans, "--out", run, "--method=monai-unet", *TINY)
    assert trained.exit_code == 0, trained.stderr
    done = coopseg(
        "predict", "--model", run, scans / "patientP001", "--device=cpu", "--out", tmp_path / "out"
    )
    assert done.exit_code == 0, done.stderr
    exported = coopseg("export", "--model", run, "--out", tmp_path / "x.onnx")
    assert (exported.exit_code, "torch.onnx.export" in exported.stderr) == (2, True)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("cooperative", {}, "latent.image=false, latent.shape=false, losses.reconstruction=0"),
        ("coopseg", {}, "set prediction.scan_statistics=null"),
        (
            "standard",
            {"network.kind": "my network"},
            "kind must be published, unet, monai-unet or module:call",
        ),
    ],
)
def test_what_it_cannot_be_trained_with_is_said(method: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CoopsegError, match=message):
        resolve_settings(method=method, overrides={"network.kind": "monai-unet", **changes})


def make_nothing(channels: int, classes: int) -> int:
    return channels + classes


def make_wrong(channels: int, classes: int) -> nn.Module:
    return nn.Conv2d(channels, classes + 1, 3, padding=1)


def test_what_is_no_network_is_refused() -> None:
    here = __name__ if ":" not in __name__ else "test_other"
    settings = NetworkSettings(kind=f"{here}:make_wrong")
    with pytest.raises(CoopsegError, match=r"returned \(2, 4, 32, 32\), wanted are logits \(2, 3, 32, 32\)"):
        make_networks(settings, 3)(torch.rand(2, 1, 32, 32))
    with pytest.raises(CoopsegError, match="returned int, wanted is an nn"):
        make_networks(NetworkSettings(kind=f"{here}:make_nothing"), 3)
    with pytest.raises(CoopsegError, match="'nowhere:make' cannot be imported"):
        make_networks(NetworkSettings(kind="nowhere:make"), 3)
