"""Times one patient, ED and ES: from two NIfTI files to two label maps, in a process that has started up.

The whole of `coopseg.predict` counts, with loading the model. Without paths the patient is a phantom.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from measures.predict import NAMES, alternate, random_model
from measures.timing import timed

from coopseg import write_phantom
from coopseg.cases.prepare import prepare, restore
from coopseg.inference.model import LAST, save_model
from coopseg.inference.predict import predict
from coopseg.inference.predictor import load_predictor
from coopseg.networks.cooperative import Networks
from coopseg.scans.nifti import read_image, write_labels


def measure(
    *,
    scans: list[str] | None = None,
    model: str | None = None,
    preset: str = "miccai2021",
    refinements: int = 1,
    precision: str = "32",
    repeats: int = 9,
    threads: int = 2,
) -> dict[str, Any]:
    """Times `coopseg predict` on the scans of one patient, made-up ones if none are given."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [Path(scan) for scan in scans] if scans else phantom_patient(folder)
        weights = Path(model) if model else save_random_model(folder, preset)
        out = folder / "out"

        def run() -> None:
            shutil.rmtree(out, ignore_errors=True)
            predict(weights, paths, out, refinements=refinements, device="cpu", precision=precision)

        shapes = [list(read_image(path).data.shape) for path in paths]
        return {
            **timed(run, repeats),
            "shapes": shapes,
            "stages_s": stages(weights, paths[0], folder, refinements, precision, repeats),
        }


def stages(
    weights: Path, path: Path, folder: Path, refinements: int, precision: str, repeats: int
) -> dict[str, float]:
    """Returns the median seconds of each step of one volume, and of loading the model."""

    def load() -> Any:
        return load_predictor(weights, refinements=refinements, device="cpu", precision=precision)[1]

    predictor, scan = load(), read_image(path)
    case = prepare(scan, predictor.settings.cases)
    head = predictor.heads[-1]
    probabilities = predictor.probabilities(case, [head])[head]
    labels = restore(probabilities, case.record)
    steps = {
        "load model": load,
        "read": lambda: read_image(path),
        "prepare": lambda: prepare(scan, predictor.settings.cases),
        "networks": lambda: predictor.probabilities(case, [head]),
        "restore": lambda: restore(probabilities, case.record),
        "write": lambda: write_labels(folder / "labels.nii.gz", labels, like=scan),
    }
    return alternate(steps, repeats)


def phantom_patient(folder: Path) -> list[Path]:
    """Writes ED and ES of one made-up patient, about as large as one of ACDC."""
    data = write_phantom(folder / "phantom", patients=1, cross_patients=0)
    return sorted(data["acdc"].glob("*/*_frame[0-9][0-9].nii.gz"))


def save_random_model(folder: Path, preset: str) -> Path:
    """Makes a run folder with random weights."""
    model = random_model(preset)
    assert isinstance(model.networks, Networks)
    save_model(folder / "model" / LAST, model.networks.state_dict(), settings=model.settings, names=NAMES)
    return folder / "model"
