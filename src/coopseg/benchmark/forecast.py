"""Lines about how far a benchmark is, with what is left of its time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coopseg.benchmark.data import find_draw, open_cross, open_data, tested_patients
from coopseg.benchmark.estimate import Known, in_words
from coopseg.benchmark.grid import Job, make_jobs, probed_rows
from coopseg.benchmark.probe import read_probe
from coopseg.benchmark.records import read_result
from coopseg.benchmark.request import WHOLE, Request, settings_of
from coopseg.cases.splits import select_patients
from coopseg.config.settings import Settings
from coopseg.evaluation.corruptions import KINDS
from coopseg.training.batches import slices_per_batch

SLICES = 20  # a patient, where epochs have to be turned into steps before any scan is read


class Forecast:
    """Says what is left, by all that the folder holds at that moment. width: jobs side by side."""

    def __init__(self, bench: Path, request: Request, *, width: int) -> None:
        self.bench, self.request, self.width = bench, request, width
        dataset = open_data(request)
        self.patients = len(find_draw(request, next(iter(request.draws), WHOLE), dataset).train)
        tested = len(select_patients(dataset, tested_patients(request, dataset)).items)
        copies = tested * len(KINDS) * request.copies
        self.volumes = tested + copies + sum(len(other.items) for other in open_cross(request))

    def begin(self, jobs: Sequence[Job], waiting: Sequence[Job], *, probes: Sequence[str]) -> str:
        """The first line: what there is to do, and how long it may take."""
        if not waiting:
            return f"all {len(jobs)} jobs have finished"
        left = self._known().left(waiting, width=self.width, probes=probes)
        side = f"{self.width} side by side" if self.width > 1 else "one by one"
        rough = " by rough figures until the first steps are timed" if probes else ""
        return f"{len(waiting)} of {len(jobs)} jobs to do, {side}: about {in_words(left)}{rough}"

    def after(self, job: Job, waiting: Sequence[Job], *, of: int) -> str:
        """The line after a job that has finished."""
        took = in_words(read_result(self.bench, job)["seconds"])
        left = in_words(self._known().left(waiting, width=self.width))
        return f"{job.id}: finished in {took}; {len(waiting)} of {of} to do, about {left} left"

    def _known(self) -> Known:
        probes = {
            row: read_probe(self.bench, row).get("seconds_per_step") for row in probed_rows(self.request)
        }
        results: list[dict[str, Any]] = [read_result(self.bench, job) for job in make_jobs(self.request)]
        return Known(
            settings=self._settings,
            steps=self._steps,
            volumes=self.volumes,
            probes={row: seconds for row, seconds in probes.items() if seconds},
            results=[result for result in results if result],
        )

    def _settings(self, row: str) -> Settings:
        return settings_of(self.request, row, seed=0)

    def _steps(self, row: str) -> int:
        probed = read_probe(self.bench, row).get("steps_of_training")
        settings = self._settings(row)
        slices = self.patients * SLICES / slices_per_batch(settings)
        guess = settings.training.steps or round((settings.training.epochs or 1) * max(1, slices))
        return probed or guess
