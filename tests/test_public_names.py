"""The public names: removing one is a decision, not an accident; importing the package is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

import coopseg

NAMES = [
    "CooperativeStep", "CoopsegError", "Predictor", "__version__", "adapt", "calibrate", "corrupt",
    "evaluate", "load_model", "measure", "open_dataset", "predict", "read_image", "resume",
    "resume_benchmark", "run_benchmark", "train", "validate", "write_dicom_phantom", "write_phantom",
    "write_report",
]  # fmt: skip
MODULES = {
    "latent": [
        "SCHEMES", "ImageExamples", "LatentMasks", "MaskChoice", "MaskedFeatures", "apply_mask", "build_mask",
        "frozen_norms", "rise_by_scheme", "sample_choice", "scores",
    ],
    "networks": [
        "Decoder", "Decoupler", "Encoder", "ImageEncoder", "Networks", "Norm", "Refiner", "StepNetworks",
    ],
    "transforms": [
        "AFA", "DSU", "GIN", "GINIPA", "AdvBias", "AdvNoise", "BigAug", "Heavy", "LocationScale", "MaxStyle",
        "MixStyle", "MixUp", "RandConv", "RandMWM", "SLAug", "layer_at",
    ],
}  # fmt: skip


def test_names() -> None:
    assert sorted(coopseg.__all__) == NAMES
    assert dir(coopseg) == sorted([*NAMES, *MODULES])
    for name in NAMES:
        assert getattr(coopseg, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = coopseg.nothing


@pytest.mark.parametrize("name", MODULES)
def test_names_of_the_modules(name: str) -> None:
    module = getattr(coopseg, name)
    assert sorted(module.__all__) == sorted(MODULES[name])
    assert all(hasattr(module, public) for public in MODULES[name])


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, coopseg; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
