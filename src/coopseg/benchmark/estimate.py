"""Estimates how long a grid will take: from rough costs at first, from probes and ended jobs as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median

from coopseg.benchmark.data import Data
from coopseg.benchmark.grid import TIMEKEEPER, Job, Result, make_jobs, probed_rows
from coopseg.benchmark.probe import TIMED, WARM_UP, read_probe
from coopseg.benchmark.request import settings_of
from coopseg.cases.splits import select_patients
from coopseg.config.methods import POST_DAE
from coopseg.config.settings import Settings
from coopseg.evaluation.corruptions import KINDS
from coopseg.results.study import WHOLE
from coopseg.training.batches import slices_per_batch

# Cost of one step relative to standard training; rows that are not listed are assumed to cost USUAL.
RELATIVE = {
    "standard": 1.0, "rand-mwm": 1.6, "randconv": 2.3, "randconv-successor": 2.3, "adv-noise": 3.1,
    "adv-bias": 2.2, POST_DAE: 0.5, "rsc": 1.9, "mixstyle": 1.7, "dsu": 1.8, "maxstyle": 2.9, "bigaug": 1.7,
    "gin": 2.4, "gin-ipa": 2.4, "afa-mixup": 1.7, "slaug": 2.4, "heavy": 1.7, "cooperative-no-latent": 1.0,
    "cooperative-miccai2021": 2.0, "cooperative-lsm2022": 0.9, TIMEKEEPER: 2.0,
}  # fmt: skip
USUAL = 2.0
# Seconds of a step of standard training on two cores: fixed, and an image's pixel at width 16.
FIXED, PIXEL = 0.08, 2.4e-6
VOLUME = 0.25  # seconds to predict and score one
START = 6.0  # seconds in which a process is ready
VALIDATING = 1.1  # a training's seconds over those of its steps
SLICES = 20  # of a patient, to turn epochs into steps before any scan is read


@dataclass(frozen=True)
class Known:
    """Holds what an estimate is made from.

    settings, steps: functions of a row's name. volumes: how many a job evaluates. probes: seconds per step of
    each row that was timed. results: of the jobs that have finished.
    """

    settings: Callable[[str], Settings]
    steps: Callable[[str], int]
    volumes: int
    probes: Mapping[str, float] = field(default_factory=dict)
    results: Sequence[Result] = ()

    def left(self, jobs: Iterable[Job], *, width: int, probes: Iterable[str] = ()) -> float:
        """Estimates the seconds of jobs, `width` of them side by side, after probes one by one."""
        each = [self.seconds(job) for job in jobs]
        probing = sum(START + (WARM_UP + TIMED) * self.step(row) for row in probes)
        return probing + max([sum(each) / width, *each])

    def seconds(self, job: Job) -> float:
        """Estimates the seconds of a whole job, from its process's start to its end."""
        like = [found.seconds for found in self.results if (found.row, found.budget) == (job.row, job.budget)]
        return fmean(like) if like else START + self._training(job) + self._evaluation()

    def step(self, row: str) -> float:
        """Returns seconds per step: as probed, else from the probes of other rows, else from its size."""
        if row in self.probes:
            return self.probes[row]
        scale = [seconds / relative_cost(name) for name, seconds in self.probes.items()]
        return relative_cost(row) * (median(scale) if scale else standard_step(self.settings(row)))

    def _training(self, job: Job) -> float:
        if job.kind in ("predictor", "statistics"):
            return 0.0
        row = TIMEKEEPER if job.budget == "time" else job.row
        return self._validating() * self.steps(row) * self.step(row)

    def _validating(self) -> float:
        ratios = [
            found.training_seconds / (found.steps * self.probes[found.row])
            for found in self.results
            if found.row in self.probes and found.training_seconds and found.steps
        ]
        return median(ratios) if ratios else VALIDATING

    def _evaluation(self) -> float:
        found = [found.evaluation_seconds for found in self.results]
        return fmean(found) if found else VOLUME * self.volumes


class Forecast:
    """Says what is left to do, from all that the folder holds at that moment. width: jobs side by side."""

    def __init__(self, bench: Path, data: Data, *, width: int) -> None:
        self.bench, self.request, self.width = bench, data.request, width
        self.patients = len(data.split(next(iter(self.request.draws), WHOLE)).train)
        tested = len(select_patients(data.own, data.tested).items)
        copies = tested * len(KINDS) * self.request.copies
        self.volumes = tested + copies + sum(len(other.items) for other in data.others)

    def begin(self, jobs: Sequence[Job], waiting: Sequence[Job], *, probes: Sequence[str]) -> str:
        """Returns the first line: what there is to do, and how long it may take."""
        if not waiting:
            return f"all {len(jobs)} jobs have finished"
        left = self._known().left(waiting, width=self.width, probes=probes)
        side = f"{self.width} side by side" if self.width > 1 else "one by one"
        rough = " by rough figures until the first steps are timed" if probes else ""
        return f"{len(waiting)} of {len(jobs)} jobs to do, {side}: about {in_words(left)}{rough}"

    def after(self, result: Result, waiting: Sequence[Job], *, of: int) -> str:
        """Returns the line after a job that has finished."""
        left = in_words(self._known().left(waiting, width=self.width))
        took = in_words(result.seconds)
        return f"{result.id}: finished in {took}; {len(waiting)} of {of} to do, about {left} left"

    def _known(self) -> Known:
        probes = {row: read_probe(self.bench, row) for row in probed_rows(self.request)}
        results = [job.result(self.bench) for job in make_jobs(self.request)]
        return Known(
            settings=self._settings,
            steps=self._steps,
            volumes=self.volumes,
            probes={row: probe.seconds_per_step for row, probe in probes.items() if probe.seconds_per_step},
            results=[result for result in results if result],
        )

    def _settings(self, row: str) -> Settings:
        return settings_of(self.request, row, seed=0)

    def _steps(self, row: str) -> int:
        if probed := read_probe(self.bench, row).steps_of_training:
            return probed
        settings = self._settings(row)
        batches = max(1, self.patients * SLICES / slices_per_batch(settings))
        return settings.training.steps or round((settings.training.epochs or 1) * batches)


def relative_cost(row: str) -> float:
    """Returns the cost of a step relative to standard training; BASE+RIVAL adds what the rival adds."""
    base, *rivals = row.split("+")
    return RELATIVE.get(base, USUAL) + sum(RELATIVE.get(rival, USUAL) - 1 for rival in rivals)


def standard_step(settings: Settings) -> float:
    """Estimates the seconds of a step of standard training from the size of its batch."""
    height, width = settings.cases.size
    pixels = settings.training.batch_size * height * width
    return FIXED + PIXEL * pixels * settings.network.width / 16


def in_words(seconds: float) -> str:
    """Formats seconds as 2.4 h, 12 min or 40 s."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
