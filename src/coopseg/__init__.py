"""coopseg: segmentation networks that stay right on scans they were not trained for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coopseg.benchmark.run import resume_benchmark as resume_benchmark
    from coopseg.benchmark.run import run_benchmark as run_benchmark
    from coopseg.checks.validate import validate_dataset as validate
    from coopseg.errors import CoopsegError as CoopsegError
    from coopseg.evaluation.corrupt import corrupt_dataset as corrupt
    from coopseg.evaluation.run import evaluate_model as evaluate
    from coopseg.inference.model import load_model as load_model
    from coopseg.inference.predict import predict as predict
    from coopseg.inference.predictor import Predictor as Predictor
    from coopseg.measures.write import measure as measure
    from coopseg.phantom.dicom import write_dicom_phantom as write_dicom_phantom
    from coopseg.phantom.write import write_phantom as write_phantom
    from coopseg.report.run import write_report as write_report
    from coopseg.scans.layouts import open_dataset as open_dataset
    from coopseg.scans.nifti import read_image as read_image
    from coopseg.training.adapt import adapt as adapt
    from coopseg.training.calibrate import calibrate as calibrate
    from coopseg.training.run import resume as resume
    from coopseg.training.run import train as train
    from coopseg.training.step import CooperativeStep as CooperativeStep

__version__ = "0.1.0"

# Imported when asked for: torch alone takes seconds, and the command line's --help needs none of it.
_HOMES = {
    "CooperativeStep": ("coopseg.training.step", "CooperativeStep"),
    "CoopsegError": ("coopseg.errors", "CoopsegError"),
    "Predictor": ("coopseg.inference.predictor", "Predictor"),
    "adapt": ("coopseg.training.adapt", "adapt"),
    "calibrate": ("coopseg.training.calibrate", "calibrate"),
    "corrupt": ("coopseg.evaluation.corrupt", "corrupt_dataset"),
    "evaluate": ("coopseg.evaluation.run", "evaluate_model"),
    "load_model": ("coopseg.inference.model", "load_model"),
    "measure": ("coopseg.measures.write", "measure"),
    "open_dataset": ("coopseg.scans.layouts", "open_dataset"),
    "predict": ("coopseg.inference.predict", "predict"),
    "read_image": ("coopseg.scans.nifti", "read_image"),
    "resume": ("coopseg.training.run", "resume"),
    "resume_benchmark": ("coopseg.benchmark.run", "resume_benchmark"),
    "run_benchmark": ("coopseg.benchmark.run", "run_benchmark"),
    "train": ("coopseg.training.run", "train"),
    "validate": ("coopseg.checks.validate", "validate_dataset"),
    "write_dicom_phantom": ("coopseg.phantom.dicom", "write_dicom_phantom"),
    "write_phantom": ("coopseg.phantom.write", "write_phantom"),
    "write_report": ("coopseg.report.run", "write_report"),
}
__all__ = [
    "CooperativeStep", "CoopsegError", "Predictor", "__version__", "adapt", "calibrate", "corrupt",
    "evaluate", "load_model", "measure", "open_dataset", "predict", "read_image", "resume",
    "resume_benchmark", "run_benchmark", "train", "validate", "write_dicom_phantom", "write_phantom",
    "write_report",
]  # fmt: skip
MODULES = ("latent", "networks", "transforms")  # what they hold is public too


def __getattr__(name: str) -> object:
    if name in MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, *MODULES])
