"""Times the networks in ONNX Runtime beside PyTorch, as they train and as they predict; slices in turn."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measures.patient import save_random_model
from measures.predict import alternate, random_case

from coopseg.inference.export import export
from coopseg.inference.model import load_model
from coopseg.inference.predictor import Predictor


def measure(
    *,
    preset: str = "miccai2021",
    refinements: int = 1,
    slices: int = 20,
    repeats: int = 9,
    threads: int = 2,
) -> dict[str, Any]:
    """Times ONNX Runtime and PyTorch on the same slices; "apart" is how far their probabilities differ."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        weights = save_random_model(Path(name), preset)
        exported = load_model(export(weights, Path(name) / "model.onnx", refinements=refinements))
        model = load_model(weights)
    case = random_case(model, slices)
    predictors = {
        "torch folded": Predictor.from_model(model, refinements=refinements),
        "torch plain": Predictor(model.networks, model.settings, refinements=refinements),
        "onnx runtime": Predictor.from_model(exported, refinements=refinements),
    }
    runs = {kind: partial(predictor.probabilities, case) for kind, predictor in predictors.items()}
    seconds = alternate(runs, repeats)
    return {
        "median_s": seconds["onnx runtime"],
        "slices_per_s": {kind: slices / value for kind, value in seconds.items()},
        "apart": apart(predictors, case),
    }


def apart(predictors: dict[str, Predictor], case: Any) -> dict[str, float]:
    """Returns the greatest difference in probability from the plain networks."""
    head = predictors["torch plain"].heads[-1]
    expected = predictors["torch plain"].probabilities(case)[head]
    return {
        kind: float(abs(predictor.probabilities(case)[head] - expected).max())
        for kind, predictor in predictors.items()
    }
