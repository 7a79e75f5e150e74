"""Run folders and evaluations made by hand: small, quick, and with every number known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from coopseg.config.resolve import resolve_settings
from coopseg.evaluation.tables import write_tables

CLASSES = ("RV", "LV")
DATASETS = {"ACDC": "intra", "RandBias": "corrupted", "RandSpike": "corrupted", "Vendor B": "other"}
PATIENTS = ("p1", "p2", "p3", "p4", "p5", "p6")
SCORES = {  # of validations: the FTN is best at the end, the STN before
    step: {"FTN": {"mean": step / 80, "RV": 0.5}, "FTN+STN": {"mean": 8 / step, "RV": 0.4}}
    for step in (20, 40)
}
Maker = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> Maker:
    """Makes the folder of a finished training; its last weights have the SHA-256 "sha-" and its name.

    Those that were best for the FTN lie beside them.
    """

    def make(
        name: str, *, method: str = "cooperative", seed: int = 0, log: bool = True, **overrides: Any
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        settings = resolve_settings(method=method, seed=seed, overrides=overrides).model_dump(mode="json")
        record = {
            "settings": settings,
            "data": {"name": "ACDC", "layout": "acdc", "labels": ["background", *CLASSES]},
            "split": {"name": "hand", "train": ["t1", "t2"], "validate": ["v1"], "test": list(PATIENTS)},
            "slices": 60, "steps": 40, "device": "cpu", "processes": 1, "threads": 1,
            "seconds": 3675.0, "seconds_per_step": 0.251, "peak_memory_gb": 1.234,
            "best": {"FTN": {"step": 40, "score": 0.5}, "FTN+STN": {"step": 20, "score": 0.4}},
            "validations": [{"step": step, **scores} for step, scores in SCORES.items()],
            "warnings": ["t1_ED: RV: 3 pixels touch the edge"],
            "versions": {"torch": "2.13.0"}, "command": ["/x/bin/coopseg", "train", "--out", name],
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(record))
        for file, sha256 in (("last", f"sha-{name}"), ("best_ftn", f"best-{name}")):
            save_file({"w": np.zeros(1, np.float32)}, folder / f"{file}.safetensors", {"sha256": sha256})
        if log:
            (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in log_of(settings)))
        return folder

    return make


def log_of(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The log of a training of 40 steps; terms of the hard pass and rises where codes are masked."""
    masked = settings["latent"]["image"]
    entries: list[dict[str, Any]] = [{"kind": "start", "step": 0, "training_patients": 2}]
    for step in (20, 40):
        entry: dict[str, Any] = {
            "segmentation": 20 / step,
            "reconstruction": 0.1,
            "total": 40 / step,
            "learning_rate": 1e-4,
        }
        if masked:
            entry |= {
                "hard_segmentation": 30 / step,
                "rise": {"image/dropout": step / 20, "shape/channel": 1.2},
            }
        entries.append({"kind": "train", "step": step, **entry})
        entries.append({"kind": "validation", "step": step, **SCORES[step]})
    return entries


@pytest.fixture
def make_evaluation(tmp_path: Path) -> Maker:
    """Makes a folder of `evaluate` of the last weights of a run."""

    def make(
        run: Path,
        out: Path | None = None,
        *,
        datasets: dict[str, str] = DATASETS,
        heads: Sequence[str] = ("FTN", "FTN+STN"),
        patients: Sequence[str] = PATIENTS,
        scores: Callable[[str, str, str], float] | None = None,
        pictures: bool = True,
    ) -> Path:
        folder = out or run / "evaluation"
        folder.mkdir(parents=True)
        generator = np.random.default_rng(sum(run.name.encode()))
        draw = scores or (lambda dataset, patient, head: round(generator.uniform(0.2, 0.99), 4))
        rows = [
            row
            for dataset, domain in datasets.items()
            for patient in patients
            for phase in ("ED", "ES")
            for row in _rows(dataset, patient, phase, heads, draw, copy=int(domain == "corrupted"))
        ]
        write_tables(rows, folder)
        record = {
            "model": {"path": str(run / "last.safetensors"), "sha256": f"sha-{run.name}",
                      "names": ["background", *CLASSES]},
            "data": [{"name": name, "domain": domain, "patients": list(patients),
                      "volumes": 2 * len(patients)}
                     for name, domain in datasets.items()],
            "slices": _slices(folder, rows, datasets, heads) if pictures else [],
            "device": "cpu", "precision": "32", "refinements": 1, "spacing": "true",
            "versions": {"torch": "2.13.1"}, "command": ["coopseg", "evaluate"], "warnings": [],
        }  # fmt: skip
        (folder / "evaluation.json").write_text(json.dumps(record))
        return folder

    return make


def _rows(
    dataset: str,
    patient: str,
    phase: str,
    heads: Sequence[str],
    draw: Callable[[str, str, str], float],
    *,
    copy: int,
) -> list[Any]:
    case = f"{patient}_{phase}" + (f"_copy{copy}" if copy else "")
    facts = {"dataset": dataset, "case": case, "patient": patient, "phase": phase, "site": "", "copy": copy}
    distances = {
        "LV": {"hd95": 4.0, "assd": 1.0, "nsd": 0.75, "distance": "measured"},
        "RV": {"hd95": math.nan, "assd": math.nan, "nsd": 0.0, "distance": "one empty"},
    }
    return [
        {**facts, "head": head, "class": name, "dice": draw(dataset, patient, head), **distances[name],
         "seconds": 0.5 + len(case) / 100}
        for head in heads
        for name in CLASSES
    ]  # fmt: skip


def _slices(
    folder: Path, rows: Sequence[dict[str, Any]], datasets: dict[str, str], heads: Sequence[str]
) -> list[Any]:
    arrays: dict[str, Any] = {}
    index: list[dict[str, Any]] = []
    truth = np.zeros((20, 24), np.uint8)
    truth[5:12, 6:14], truth[8:16, 12:20] = 1, 2
    for number, name in enumerate(datasets):
        case = next(row["case"] for row in rows if row["dataset"] == name)
        arrays |= {f"{number}/image": truth * 100, f"{number}/truth": truth}
        arrays |= {f"{number}/{head}": np.roll(truth, 1, axis=0) for head in heads}
        index.append({"dataset": name, "case": case, "slice": 3, "slices": 6, "spacing": [1.5, 2.0]})
    np.savez_compressed(folder / "slices.npz", **arrays)
    return index


@pytest.fixture
def keep_hard_examples() -> Callable[[Path], None]:
    """Lays hard examples of three moments into a run folder, those of the image code only."""

    def keep(run: Path) -> None:
        generator = np.random.default_rng(0)
        names = ("image", "reconstruction", "image_dropout", "image_channel", "image_spatial")
        (run / "hard_examples").mkdir()
        for step in (4, 20, 40):
            arrays = {name: generator.integers(0, 256, (2, 16, 16)).astype(np.uint8) for name in names}
            arrays["label"] = generator.integers(0, 3, (2, 16, 16)).astype(np.uint8)
            np.savez_compressed(run / "hard_examples" / f"step{step:06d}.npz", **arrays)  # type: ignore[arg-type]

    return keep
