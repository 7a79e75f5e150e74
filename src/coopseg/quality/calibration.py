"""Turns signs of trouble into an expected Dice with an interval, by cases of which the truth is known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from coopseg.config.section import Section
from coopseg.quality.distance import Reference
from coopseg.text import counted

FOLDS = 5
LEAST_SCATTER = 0.01  # of Dice: no estimate is surer than that
BAD = 0.7  # mean Dice over structures below which a segmentation is called bad
MISSED = 0.1  # wanted share of bad segmentations that are not flagged
LEVEL = 0.9  # of the interval


@dataclass(frozen=True)
class Judged:
    """Holds a volume of which the truth is known.

    signs: by name, (classes - 1,) each. dice: (classes - 1,), that of the label map. found, there: (classes -
    1,) bool, which structures the label map has, and the truth.
    """

    patient: str
    signs: Mapping[str, np.ndarray]
    dice: np.ndarray
    found: np.ndarray
    there: np.ndarray


@dataclass(frozen=True)
class Expected:
    """Holds what is expected of a label map: Dice of each structure, and their mean.

    low, high: ends of the interval, None without one. flagged: whether the mean lies below the limit.
    """

    dice: Mapping[str, float]
    mean: float
    low: Mapping[str, float] | None
    high: Mapping[str, float] | None
    flagged: bool

    def describe(self) -> str:
        """Says it in a few words.

        >>> Expected({"RV": 0.8, "LV": 0.9}, 0.85, None, None, False).describe()
        '0.85 (RV 0.80, LV 0.90)'
        >>> Expected({"LV": 0.9}, 0.9, {"LV": 0.8}, {"LV": 0.95}, False).describe()
        '0.90 (LV 0.90, 0.80 to 0.95)'
        """
        parts = []
        for name, value in self.dice.items():
            ends = f", {self.low[name]:.2f} to {self.high[name]:.2f}" if self.low and self.high else ""
            parts.append(f"{name} {value:.2f}{ends}")
        return f"{self.mean:.2f} ({'; '.join(parts) if self.low else ', '.join(parts)})"


class Line(Section):
    """Holds the map for one structure: 1 - Dice = Σ weight · sign + offset, no weight below 0.

    base, slope: the scatter of the true Dice around it is base + slope · (1 - Dice). reach: half the width of
    the interval in scatters; None if too few patients are known for one. always: whether every scan that it
    was fitted on has the structure, so that a label map without it is wrong: its Dice is 0, whatever the
    signs say. All opinions of a volume can agree on nothing.
    """

    weights: tuple[float, ...]
    offset: float
    base: float
    slope: float
    reach: float | None
    always: bool

    def expect(self, signs: np.ndarray) -> np.ndarray:
        """Returns the expected Dice of volumes, clipped to [0, 1]. signs: (volumes, signs)."""
        loss = signs @ np.asarray(self.weights) + self.offset
        found: np.ndarray = (1 - loss).clip(0, 1)
        return found

    def scatter(self, dice: np.ndarray) -> np.ndarray:
        """Returns how far the true Dice usually lies from an expected one."""
        found: np.ndarray = np.maximum(self.base + self.slope * (1 - dice), LEAST_SCATTER)
        return found


class Skill(Section):
    """Says how good the estimates were on patients who had no part in them, in turn.

    error: mean distance between expected and true Dice of a structure. auroc: how well the expected mean
    Dice tells bad segmentations from others, None if all or none are bad. bad, missed, flagged: volumes;
    flagged counts bad ones and others. bad_patients: of how many patients the bad ones are.
    """

    error: float
    auroc: float | None
    volumes: int
    bad: int
    bad_patients: int
    missed: int
    flagged: int


class Calibration(Section):
    """Holds all that turns signs into an expected Dice; a model file can store it.

    head: whose label maps it speaks of. signs: their names, in the order of the weights. lines: by structure.
    bad: mean Dice below which a label map is called bad. limit: expected mean below which it is flagged.
    missed: with what probability a bad one may go without a flag.
    level: share of true values within the interval. patients, source, made: by how many of whose scans it was
    fitted, and on what day. known: `mark_patient` of each, so that it can be told who they were without their
    names. scan_statistics, refinements: of the predictions. reference: of the codes of training scans, None
    if they were not at hand.
    """

    head: str
    signs: tuple[str, ...]
    lines: Mapping[str, Line]
    bad: float
    limit: float
    missed: float
    level: float
    patients: int
    source: str
    made: str
    known: tuple[str, ...]
    scan_statistics: float | None
    refinements: int
    skill: Skill
    reference: Reference | None = None

    def describe(self) -> str:
        """Says in a line what it rests on."""
        patients = counted(self.patients, "patient")
        return f"by {patients} ({self.source}), {self.made}; flagged below {self.limit:.2f}"

    @property
    def caution(self) -> str:
        """Says why the flag tells less than it should; "" if it does not."""
        if self.skill.bad == 0:
            return "no label map of the calibration was bad, so what a bad one looks like is not known"
        if self.skill.bad == self.skill.volumes:
            return (
                f"every label map of the calibration was bad (mean Dice below {self.bad:g}): "
                "the flag says little"
            )
        if self.skill.bad_patients < (least := least_patients(1 - self.missed)):
            return (
                f"the calibration has bad label maps of {counted(self.skill.bad_patients, 'patient')}; to "
                f"promise that the flag misses no more than {self.missed:.0%} takes {least}"
            ).replace("%", " %")
        return ""

    def expect(self, signs: Mapping[str, np.ndarray], found: np.ndarray) -> Expected:
        """Returns what is expected of a label map with these signs, see `read_signs`.

        found: (classes - 1,) bool, which structures it has.
        """
        dice, low, high = dict[str, float](), dict[str, float](), dict[str, float]()
        for index, (name, line) in enumerate(self.lines.items()):
            row = np.array([[signs[sign][index] for sign in self.signs]])
            wrong = line.always and not found[index]
            expected = np.zeros(1) if wrong else line.expect(row)
            dice[name] = float(expected[0])
            if line.reach is not None:
                apart = 0.0 if wrong else line.reach * float(line.scatter(expected)[0])
                low[name], high[name] = max(dice[name] - apart, 0.0), min(dice[name] + apart, 1.0)
        mean = float(np.mean(list(dice.values())))
        whole = len(low) == len(dice)
        return Expected(dice, mean, low if whole else None, high if whole else None, mean < self.limit)


def mark_patient(name: str) -> str:
    """Returns twelve digits by which a patient's name is known again."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]


@dataclass(frozen=True)
class Fitted:
    """Holds the result of `fit_lines`. limit: see `Calibration`."""

    lines: dict[str, Line]
    limit: float
    skill: Skill


def fit_lines(
    judged: Sequence[Judged],
    signs: Sequence[str],
    names: Sequence[str],
    *,
    bad: float = BAD,
    missed: float = MISSED,
    level: float = LEVEL,
) -> Fitted:
    """Fits the map from signs to Dice, the interval and the limit.

    judged: at least two patients; each counts the same, however many volumes there are of them. names: of the
    structures. bad, missed: a volume of a new patient whose mean Dice is below `bad` lies above the limit
    with a probability of `missed` at most, by the same rule as the interval; if none is bad the limit is
    `bad`.

    The map is the line of least squares without negative weights (Lawson and Hanson 1974): it grows with
    every sign. Its errors are those that it has on patients whom it was not fitted on, by fifths of them. The
    interval is the conformal one for patients with several volumes each (Lee, Barber and Willett 2023,
    "Distribution-free inference with hierarchical data", with errors in units of their usual size). It holds
    with a probability of about `level` for a new patient of the same kind: exactly so if its errors came from
    patients that no line was fitted on, which would leave half of them for each. 0.9 needs 9 patients.
    """
    values = np.array([[one.signs[sign] for sign in signs] for one in judged])  # (volumes, signs, structures)
    truth = np.array([one.dice for one in judged])
    patients = np.array([one.patient for one in judged])
    found, there = np.array([one.found for one in judged]), np.array([one.there for one in judged])
    shares = _shares(patients)
    lines, unseen = {}, np.zeros_like(truth)
    for index, name in enumerate(names):
        always = bool(there[:, index].all())
        wrong = ~found[:, index] & always
        line, unseen[:, index] = _fit_line(
            values[:, :, index], truth[:, index], patients, shares, wrong, level
        )
        lines[name] = line.model_copy(update={"always": always})
    means, expected = truth.mean(1), unseen.mean(1)
    is_bad = means < bad
    limit = _limit(expected[is_bad], patients[is_bad], missed) if is_bad.any() else bad
    flagged = expected < limit
    skill = Skill(
        error=float(np.abs(unseen - truth).mean()),
        auroc=auroc(-expected, is_bad),
        volumes=len(truth),
        bad=int(is_bad.sum()),
        bad_patients=len(np.unique(patients[is_bad])),
        missed=int((is_bad & ~flagged).sum()),
        flagged=int(flagged.sum()),
    )
    return Fitted(lines, limit, skill)


def _shares(patients: np.ndarray) -> np.ndarray:
    """Returns the weight of each volume: those of a patient add up to 1."""
    _, number, count = np.unique(patients, return_inverse=True, return_counts=True)
    found: np.ndarray = 1 / count[number]
    return found


def _fit_line(
    signs: np.ndarray,
    dice: np.ndarray,
    patients: np.ndarray,
    shares: np.ndarray,
    wrong: np.ndarray,
    level: float,
) -> tuple[Line, np.ndarray]:
    """Returns the line through all volumes, and what it expects of each without having seen its patient.

    wrong: volumes whose Dice is known to be 0; no line goes through them.
    """
    every, shares = shares, np.where(wrong, 0, shares)
    unseen = np.zeros_like(dice)
    known = np.unique(patients)
    folds = np.random.default_rng(0).permutation(len(known)) % min(FOLDS, len(known))
    for fold in range(folds.max() + 1):
        out = np.isin(patients, known[folds == fold])
        weights, offset = _least_squares(signs[~out], dice[~out], shares[~out])
        unseen[out] = (1 - signs[out] @ weights - offset).clip(0, 1)
    unseen[wrong] = 0
    weights, offset = _least_squares(signs, dice, shares)
    apart = np.abs(dice - unseen)
    (slope,), base = _least_squares((1 - unseen)[:, None], 1 - apart, shares)
    line = Line(weights=tuple(weights), offset=offset, base=base, slope=slope, reach=None, always=False)
    reach = conformal(apart / line.scatter(unseen), every, len(known), level)
    return line.model_copy(update={"reach": reach}), unseen


def _least_squares(signs: np.ndarray, dice: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns weights and offset, none of them below 0."""
    scale = np.sqrt(shares)
    columns = np.column_stack([signs, np.ones(len(signs))]) * scale[:, None]
    found, _ = nnls(columns, (1 - dice) * scale)
    return found[:-1], float(found[-1])


def conformal(scores: np.ndarray, shares: np.ndarray, patients: int, level: float) -> float | None:
    """Returns the score that a new patient's volume exceeds with probability 1 - level; None without one.

    shares: weights of the scores; those of each patient add up to 1. The new patient counts as one whose
    scores are infinite.
    """
    order = np.argsort(scores)
    reached = np.cumsum(shares[order]) / (patients + 1)
    enough = np.flatnonzero(reached >= level - 1e-12)
    return float(scores[order][enough[0]]) if len(enough) else None


def least_patients(level: float) -> int:
    """Returns how many patients an interval needs, and a limit, with 1 - missed as its level.

    >>> least_patients(0.9), least_patients(0.8)
    (9, 4)
    """
    return math.ceil(level / (1 - level) - 1e-9)


def _limit(expected: np.ndarray, patients: np.ndarray, missed: float) -> float:
    """Returns the limit that a bad volume of a new patient is above with probability `missed` at most.

    expected, patients: of the bad volumes. Too few patients for that promise give the limit below which all
    of these lie.
    """
    highest = conformal(expected, _shares(patients), len(np.unique(patients)), 1 - missed)
    return math.nextafter(float(expected.max()) if highest is None else highest, 2)


def auroc(score: np.ndarray, positive: np.ndarray) -> float | None:
    """Returns the probability that the score of a positive exceeds that of another; None if all are alike.

    score: (n,). positive: (n,) bool. Equal scores count half (Mann and Whitney).

    >>> auroc(np.array([1, 2, 2, 3]), np.array([False, False, True, True]))
    0.875
    """
    if positive.all() or not positive.any():
        return None
    ones, others = score[positive], score[~positive]
    apart = ones[:, None] - others[None]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())
