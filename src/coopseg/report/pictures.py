"""What can be looked at: one slice of each data set with contours, and hard examples through the training."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.errors import CoopsegError
from coopseg.evaluation.pictures import IMAGE, SLICES, TRUTH
from coopseg.latent.choice import SCHEMES
from coopseg.report.cases import volumes
from coopseg.report.images import class_png, contours, grey_png
from coopseg.report.scores import Method
from coopseg.report.sources import Evaluated, Run
from coopseg.training.hard_examples import FOLDER as HARD_EXAMPLES

STAGES = ("early", "midway", "late")


def slice_pictures(methods: Sequence[Method], columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each data set the stored slice with true and predicted contours, of each method's first run."""
    found = []
    for column in columns:
        panels = [panel for method in methods if (panel := _panel(method, column["name"]))]
        if panels:
            found.append({"dataset": column["name"], "domain": column["domain"], "panels": panels})
    return found


def _panel(method: Method, dataset: str) -> dict[str, Any] | None:
    run = method.runs[0]
    for evaluation in run.evaluations:
        for number, entry in enumerate(evaluation.record["slices"]):
            if entry["dataset"] == dataset:
                arrays = read_arrays(evaluation.folder / SLICES)
                return _draw(method, evaluation, entry, arrays, f"{number}/")
    return None


def _draw(
    method: Method, evaluation: Evaluated, entry: dict[str, Any], arrays: dict[str, np.ndarray], start: str
) -> dict[str, Any]:
    run, names = method.runs[0], evaluation.record["model"]["names"]
    height, width = entry["spacing"]
    image = arrays[start + IMAGE]
    scores = next(
        volume
        for volume in volumes(run, method.head)
        if (volume["dataset"], volume["case"]) == (entry["dataset"], entry["case"])
    )
    return {
        "method": method.name,
        "run": run.label,
        "head": method.head,
        **{key: entry[key] for key in ("case", "slice", "slices")},
        "dice": scores["dice"],
        "classes": scores["classes"],
        "image": grey_png(image),
        "size_mm": [round(image.shape[0] * height, 2), round(image.shape[1] * width, 2)],
        "truth": contours(arrays[start + TRUTH], names, (height, width)),
        "prediction": contours(arrays[start + method.head], names, (height, width)),
    }


def hard_examples(methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Reconstructions and segmentations, clean and under every mask, of each method that stored them.

    From the first run of a method. A row holds one picture a stage: what is shown is x' or p for the scheme
    "none", x̂ or p̂ under the others.
    """
    found = []
    for method in methods:
        run = method.runs[0]
        files = sorted((run.folder / HARD_EXAMPLES).glob("step*.npz"))
        if files:
            found.append({"method": method.name, "run": run.label, **_stages(run, files)})
    return found


def _stages(run: Run, files: Sequence[Path]) -> dict[str, Any]:
    stages = [read_arrays(file) for file in files]
    names = run.record["data"]["labels"]
    samples = [
        {
            "image": grey_png(stages[-1]["image"][number]),
            "label": class_png(stages[-1]["label"][number], names),
            "rows": [row for code in ("image", "shape") for row in _rows(stages, code, number, names)],
        }
        for number in range(len(stages[-1]["image"]))
    ]
    steps = [int(file.stem.removeprefix("step")) for file in files]
    titles = STAGES if len(files) == len(STAGES) else [""] * len(files)
    listed = [{"name": name, "step": step} for name, step in zip(titles, steps, strict=True)]
    return {"stages": listed, "samples": samples}


def _rows(
    stages: Sequence[dict[str, np.ndarray]], code: str, number: int, names: Sequence[str]
) -> list[dict[str, Any]]:
    clean = {"image": "reconstruction", "shape": "prediction"}[code]
    keys = {"none": clean, **{scheme: f"{code}_{scheme}" for scheme in SCHEMES}}
    rows = []
    for scheme, key in keys.items():
        if key in stages[-1]:
            values = [stage[key][number] for stage in stages]
            pictures = [grey_png(v) if code == "image" else class_png(v, names) for v in values]
            rows.append({"code": code, "scheme": scheme, "pictures": pictures})
    return rows


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file. Raises CoopsegError where it cannot be read."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CoopsegError(f"{path}: cannot be read ({error}); run what wrote it again") from None
