"""How long a grid will take: from rough costs at first, from probes and ended jobs as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from coopseg.benchmark.grid import TIMEKEEPER, Job
from coopseg.config.methods import POST_DAE
from coopseg.config.settings import Settings

# A step in those of standard training; others that train something beside it are taken for USUAL.
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
PROBE_STEPS = 23
VALIDATING = 1.1  # a training's seconds over those of its steps


@dataclass(frozen=True)
class Known:
    """What an estimate is made from.

    settings, steps: of a row. volumes: that a job evaluates. probes: seconds a step of each row. results:
    result.json of ended jobs.
    """

    settings: Callable[[str], Settings]
    steps: Callable[[str], int]
    volumes: int
    probes: Mapping[str, float] = field(default_factory=dict)
    results: Sequence[Mapping[str, Any]] = ()

    def left(self, jobs: Iterable[Job], *, width: int, probes: Iterable[str] = ()) -> float:
        """Seconds that jobs will take, `width` of them side by side, after probes one by one."""
        each = [self.seconds(job) for job in jobs]
        probing = sum(START + PROBE_STEPS * self.step(row) for row in probes)
        return probing + max([sum(each) / width, *each])

    def seconds(self, job: Job) -> float:
        """Of a whole job."""
        like = [entry["seconds"] for entry in self.results if _same(entry, job)]
        return fmean(like) if like else START + self._training(job) + self._evaluation()

    def step(self, row: str) -> float:
        """Seconds of a step: as probed, else by the probes of other rows, else by its size."""
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
            entry["training_seconds"] / (entry["steps"] * self.probes[entry["row"]])
            for entry in self.results
            if entry["row"] in self.probes and entry.get("training_seconds")
        ]
        return median(ratios) if ratios else VALIDATING

    def _evaluation(self) -> float:
        found = [entry["evaluation_seconds"] for entry in self.results if entry.get("evaluation_seconds")]
        return fmean(found) if found else VOLUME * self.volumes


def relative_cost(row: str) -> float:
    """A step of a row in those of standard training; BASE+RIVAL is the base and what the rival adds."""
    base, *rivals = row.split("+")
    return RELATIVE.get(base, USUAL) + sum(RELATIVE.get(rival, USUAL) - 1 for rival in rivals)


def standard_step(settings: Settings) -> float:
    """Seconds of a step of standard training, by the size of its batch."""
    height, width = settings.cases.size
    pixels = settings.training.batch_size * height * width
    return FIXED + PIXEL * pixels * settings.network.width / 16


def in_words(seconds: float) -> str:
    """2.4 h, 12 min or 40 s."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _same(result: Mapping[str, Any], job: Job) -> bool:
    return (result["row"], result["budget"]) == (job.row, job.budget)
