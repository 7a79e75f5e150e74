"""Times the evaluation of a phantom, by one worker and by one a core; how much networks and distances take.

The masks of untrained networks would make distances slower or faster than any real ones. Without a trained
run the networks compute and are not listened to: the prediction is the truth, two pixels off.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import surface_distance
from measures.cores import EVERY, clocked, spent

from coopseg.config.resolve import resolve_settings
from coopseg.evaluation.evaluate import Predict, Predictions, evaluate
from coopseg.inference.predictor import Predictor, load_predictor
from coopseg.networks.cooperative import Networks
from coopseg.phantom.write import write_phantom
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label
from coopseg.scans.types import Dataset, Scan


def measure(
    *,
    run: str | None = None,
    data: str | None = None,
    preset: str = "cpu",
    distances: bool = True,
    patients: int = 6,
    repeats: int = 1,
) -> dict[str, Any]:
    """Returns the times of one worker and of all, and the shares of networks and distances in those of one.

    run: a trained run, whose own masks are then scored. data: folder of a data set; a phantom where there is
    none. distances: false as for headers with a nominal spacing.
    """
    with TemporaryDirectory() as folder:
        source = data or write_phantom(Path(folder) / "phantom", patients=patients, cross_patients=0)["acdc"]
        dataset = open_dataset(source)
        predict: Callable[[Scan, bool], dict[str, np.ndarray]]
        if run:
            model, predict = load_predictor(run, device="cpu")
            names = model.names
        else:
            names, predict = dataset.labels.names, _nearly_right(dataset, preset)
        found = _measure(Predictions(predict, names=names), dataset, distances, repeats)
    return {**found, "volumes": len(dataset.items), "cores": EVERY}


def _measure(predictions: Predictions, dataset: Dataset, distances: bool, repeats: int) -> dict[str, Any]:
    def score(workers: int) -> dict[str, float]:
        found = spent(lambda: evaluate(predictions, [dataset], spacing_is_true=distances, workers=workers))
        return {**found, "volumes_per_s": len(dataset.items) / found["wall_s"]}

    score(EVERY)  # to warm up
    with (
        clocked(surface_distance, "compute_surface_distances") as measuring,
        clocked(Predictor, "probabilities") as computing,
    ):
        one = score(1)
    every = sorted((score(EVERY) for _ in range(repeats)), key=lambda result: result["wall_s"])
    middle = every[len(every) // 2]
    shares = {"network_share": sum(computing) / one["cpu_s"], "distance_share": sum(measuring) / one["cpu_s"]}
    return {"median_s": middle["wall_s"], "one_worker": {**one, **shares}, "all_workers": middle}


def _nearly_right(dataset: Dataset, preset: str) -> Predict:
    settings = resolve_settings(preset=preset, method="cooperative")
    networks = Networks(classes=len(dataset.labels.names), **dict(settings.network)).eval()
    predictor = Predictor(networks, settings)
    nearly = {}
    for ref in dataset.items:
        label = load_label(ref)
        assert label is not None
        truth = labels_to_indices(label.data, dataset.labels, names=dataset.labels.names, path=ref.label)
        nearly[ref.image] = np.roll(truth.astype(np.uint8), (2, 2), (0, 1))

    def predict(scan: Scan, normalised: bool) -> dict[str, np.ndarray]:
        assert scan.path is not None
        return dict.fromkeys(predictor(scan, normalised), nearly[scan.path])

    return predict
