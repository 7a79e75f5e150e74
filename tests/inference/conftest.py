"""A model with random weights on disk, and scans for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from coopseg.config.resolve import resolve_settings
from coopseg.config.settings import Settings
from coopseg.inference.export import export
from coopseg.inference.model import LAST, save_model
from coopseg.networks.cooperative import Networks
from coopseg.quality.calibration import Calibration, Line, Skill, mark_patient
from coopseg.quality.distance import Reference
from coopseg.quality.signs import SIGNS
from coopseg.scans.types import Scan

NAMES = ("background", "LV", "MYO", "RV")
AFFINE = np.array([[-1.5, 0, 0, 60], [0, -1.25, 0.5, 40], [0, 0.1, 9, -7], [0, 0, 0, 1.0]]).astype(np.float32)
SMALL = {"network.width": 2, "cases.size": (32, 32), "cases.spacing": 3.0}


@pytest.fixture(scope="session")
def small_settings() -> Settings:
    return resolve_settings(method="cooperative", overrides=SMALL)


@pytest.fixture(scope="session")
def small_networks(small_settings: Settings) -> Networks:
    """Random weights whose normalisation has seen a batch, so that classes vary within an image."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        networks = Networks(classes=len(NAMES), **dict(small_settings.network))
        networks.train()(torch.rand(8, 1, 32, 32))
    return networks.eval()


@pytest.fixture(scope="session")
def save_small(small_networks: Networks) -> Callable[[Path, Settings], str]:
    """Saves those weights into a folder with given settings."""
    return lambda folder, settings: save_model(
        folder / LAST, small_networks.state_dict(), settings=settings, names=NAMES
    )


@pytest.fixture(scope="session")
def small_model(
    tmp_path_factory: pytest.TempPathFactory,
    small_settings: Settings,
    save_small: Callable[[Path, Settings], str],
) -> Path:
    """A folder with last.safetensors."""
    folder = tmp_path_factory.mktemp("model")
    save_small(folder, small_settings)
    return folder


@pytest.fixture
def make_scan() -> Callable[..., Scan]:
    """A random scan of a shape, sheared and anisotropic."""

    def make(*shape: int, seed: int = 0) -> Scan:
        data = np.random.default_rng(seed).gamma(2, 100, shape).astype(np.float32)
        return Scan(data, AFFINE.astype(np.float64), None)

    return make


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    """That model as an ONNX file."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    return export(small_model, tmp_path_factory.mktemp("onnx") / "small.onnx")


@pytest.fixture(scope="session")
def made_calibration() -> Calibration:
    """A calibration of that model, with numbers that somebody made up."""
    line = Line(weights=(0.2, 0.3, 0.1, 0.4), offset=0.05, base=0.02, slope=0.2, reach=2.0, always=True)
    return Calibration(
        head="FTN+STN",
        signs=tuple(SIGNS),
        lines=dict.fromkeys(NAMES[1:], line),
        bad=0.7,
        limit=0.7,
        missed=0.1,
        level=0.9,
        patients=12,
        source="made up",
        made="2026-11-30",
        known=(mark_patient("anna"),),
        scan_statistics=None,
        refinements=1,
        skill=Skill(error=0.05, auroc=0.9, volumes=24, bad=9, bad_patients=9, missed=0, flagged=10),
        reference=Reference(mean=(0.0,) * 16, spread=(1.0,) * 16, farthest=1.0),
    )
