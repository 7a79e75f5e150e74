"""Runs the demo: from made-up scans to a report and to DICOM, with the calls that real scans would need."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coopseg.cases.splits import find_split, select_part
from coopseg.config.resolve import resolve_settings
from coopseg.evaluation.corrupt import corrupt_dataset
from coopseg.evaluation.run import evaluate_model
from coopseg.inference.predict import predict
from coopseg.phantom.dicom import write_dicom_phantom
from coopseg.phantom.write import write_phantom
from coopseg.report.run import write_report
from coopseg.scans.files import check_new, write_atomically
from coopseg.scans.layouts import open_dataset
from coopseg.training.calibrate import calibrate
from coopseg.training.loop import Progress
from coopseg.training.run import train

METHODS = ("standard", "cooperative")
STUDY, RESULTS = "study", "study-results"
TRAIN, VALIDATE, TEST, CROSS = 8, 2, 5, 6  # patients; CROSS are of other sites
COLUMNS = 128  # of an image of the training site
# Small enough for five minutes on two cores; a real training leaves these settings alone.
CASES: Mapping[str, Any] = {"cases.size": [64, 64], "cases.spacing": 2.75}
SMALL: Mapping[str, Any] = {
    "network.width": 8,
    "training.steps": 600,
    "training.validations": 5,
    "training.learning_rate": 0.004,
    # Made-up hearts are never turned or mirrored, and there is no time to learn such images.
    "augmentation.rotate45": 0,
    "augmentation.flip": 0,
    # Hard examples of untrained networks teach little and cost half of the time.
    "training.cooperate_after": 0.5,
}
# Seconds on two cores, from which the time left is estimated.
COSTS = {
    "phantom": 7, "corrupt": 3, "standard": 65, "cooperative": 120, "calibrate": 5, "evaluate": 15,
    "report": 1, "study": 20,
}  # fmt: skip


@dataclass(frozen=True)
class DemoProgress:
    """Holds what a display shows. share: of the whole, 0 to 1; left: seconds; event: a training's, if any."""

    share: float
    left: float
    text: str
    event: Progress | None = None


class Course:
    """Tracks progress through stages of known cost."""

    def __init__(self, costs: Sequence[float], progress: Callable[[DemoProgress], None] | None) -> None:
        self.costs, self.progress = list(costs), progress
        self.total, self.done, self.start, self.text = sum(costs), 0.0, time.monotonic(), ""

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Runs the block as the next stage."""
        self.text = text
        self.tell(0)
        yield
        self.done += self.costs.pop(0)

    def tell(self, share: float, event: Progress | None = None) -> None:
        """Report that `share` of the stage is done."""
        whole = (self.done + share * self.costs[0]) / self.total
        elapsed = time.monotonic() - self.start
        left = elapsed * (1 - whole) / whole if whole else float(self.total)
        if self.progress:
            self.progress(DemoProgress(whole, left, self.text, event))

    def count(self, done: int, total: int, name: str) -> None:
        """Calls `tell` with a count of volumes."""
        self.tell(done / total)

    def follow(self, progress: Progress) -> None:
        """Calls `tell` with the progress of a training."""
        self.tell(progress.step / progress.steps, progress)


def run_demo(
    out: str | Path, *, seeds: int = 1, progress: Callable[[DemoProgress], None] | None = None
) -> Path:
    """Show the problem and the method on a phantom; returns the HTML report.

    Trains standard and cooperative networks with each seed on patients of one site, calibrates them on others
    and tests them on its remaining ones, on corrupted copies of these and on other sites. Then the last one
    segments a DICOM study, if the extra `dicom` is installed. out: new or empty folder; it gets split.json,
    phantom/, runs/, corrupted/, report/, study/ and study-results/. progress: called with every DemoProgress.
    """
    out = Path(out)
    check_new(out)
    trainings = [(method, seed) for seed in range(seeds) for method in METHODS]
    stages = [
        "phantom",
        "corrupt",
        *(stage for method, _ in trainings for stage in (method, "calibrate", "evaluate")),
    ]
    stages += ["report", "study"] if has_dicom() else ["report"]
    course = Course([COSTS[stage] for stage in stages], progress)
    with course.stage("making scans of four sites"):
        data = write_phantom(
            out / "phantom", patients=TRAIN + VALIDATE + TEST, cross_patients=CROSS, size=COLUMNS
        )
        split = _write_split(out / "split.json", data["acdc"])
    with course.stage("corrupting copies of the test scans"):
        tested = select_part(open_dataset(data["acdc"]), find_split(split), "test")
        cases = resolve_settings(overrides=CASES).cases
        corrupt_dataset(
            tested, out / "corrupted", copies=1, settings=cases, grid="published", progress=course.count
        )
    sets: list[str | Path] = [f"same site={data['acdc']}", out / "corrupted", f"other sites={data['mnms']}"]
    runs = []
    for method, seed in trainings:
        name = f"{method}-{seed}"
        with course.stage(f"training {name}"):
            run = train(
                data["acdc"],
                out / "runs" / name,
                preset="quick",
                method=method,
                split=split,
                settings={**CASES, **SMALL},
                seed=seed,
                progress=course.follow,
            )
        with course.stage(f"calibrating {name}"):
            calibrate(run, progress=course.count)
        with course.stage(f"testing {name}"):
            evaluate_model(run, sets, run / "evaluation", split=split, progress=course.count)
        runs.append(run)
    with course.stage("writing the report"):
        report = write_report(runs, out / "report")
    if has_dicom():
        with course.stage("segmenting a DICOM study"):
            study = write_dicom_phantom(out / STUDY, size=COLUMNS)
            predict(runs[-1], study, out / RESULTS, page=True, dicom=True)
    return report


def has_dicom() -> bool:
    """Tells whether the extra `dicom` is installed."""
    return all(importlib.util.find_spec(name) for name in ("pydicom", "highdicom"))


def _write_split(path: Path, data: Path) -> Path:
    """Writes one split for all trainings, so that seeds differ in weights, batches and masks only."""
    patients = open_dataset(data).patients
    bounds = {"train": (0, TRAIN), "validate": (TRAIN, TRAIN + VALIDATE), "test": (TRAIN + VALIDATE, None)}
    parts = {part: patients[slice(*bound)] for part, bound in bounds.items()}
    write_atomically(path, json.dumps(parts, indent=1).encode())
    return path
