"""Fits of made-up cases whose truth is known; the interval holds as it says; the area against scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import lsq_linear
from scipy.stats import mannwhitneyu

from coopseg.quality.calibration import (
    Calibration,
    Fitted,
    Judged,
    auroc,
    conformal,
    fit_lines,
    least_patients,
)

NAMES, SIGNS = ("RV", "LV"), ("one", "two", "noise")
WEIGHTS, OFFSET = np.array([0.6, 0.3, 0.0]), 0.05
BOTH = np.array([True, True])


def cases(patients: int, *, seed: int = 0, scatter: float = 0.0, volumes: int = 4) -> list[Judged]:
    """Volumes whose loss is a line of two signs; what scatters is shared by the volumes of a patient."""
    generator = np.random.default_rng(seed)
    found = []
    for patient in range(patients):
        own = generator.normal(0, scatter, 2)
        for _ in range(volumes):
            signs = generator.random((3, 2)) * generator.random()
            dice = 1 - WEIGHTS @ signs - OFFSET + own * (0.2 + signs[0])
            named = dict(zip(SIGNS, signs, strict=True))
            found.append(Judged(f"{seed}-{patient}", named, dice.clip(0, 1), BOTH, BOTH))
    return found


def calibration(fitted: Fitted, level: float = 0.9) -> Calibration:
    return Calibration(
        head="FTN", source="", made="", known=(), patients=1, scan_statistics=None, refinements=1,
        bad=0.7, missed=0.1, level=level, signs=SIGNS, lines=fitted.lines, limit=fitted.limit,
        skill=fitted.skill,
    )  # fmt: skip


def test_finds_the_line() -> None:
    fitted = fit_lines(cases(20), SIGNS, NAMES)
    for line in fitted.lines.values():
        np.testing.assert_allclose(line.weights, WEIGHTS, atol=1e-6)
        assert line.offset == pytest.approx(OFFSET, abs=1e-6)
    assert fitted.skill.error < 1e-6
    assert fitted.skill.auroc == 1
    case = cases(1, seed=9)[0]
    expected = calibration(fitted).expect(case.signs, BOTH)
    np.testing.assert_allclose(list(expected.dice.values()), case.dice, atol=1e-6)


def test_weights_are_those_of_bounded_least_squares_with_a_share_for_each_patient() -> None:
    judged = cases(5, scatter=0.3) + cases(1, seed=3, scatter=0.3, volumes=40)
    fitted = fit_lines(judged, SIGNS, NAMES)
    shares = np.sqrt([1 / 4] * 20 + [1 / 40] * 40)
    columns = np.array([[*(one.signs[sign][0] for sign in SIGNS), 1.0] for one in judged])
    target = 1 - np.array([one.dice[0] for one in judged])
    expected = lsq_linear(columns * shares[:, None], target * shares, bounds=(0, np.inf), tol=1e-12).x
    line = fitted.lines["RV"]
    np.testing.assert_allclose([*line.weights, line.offset], expected, atol=1e-5)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_the_interval_holds_for_new_patients(level: float) -> None:
    within = []
    for seed in range(20):
        known = calibration(fit_lines(cases(30, seed=seed, scatter=0.1), SIGNS, NAMES, level=level), level)
        for case in cases(30, seed=1000 + seed, scatter=0.1):
            found = known.expect(case.signs, BOTH)
            assert found.low
            assert found.high
            for index, name in enumerate(NAMES):
                within.append(found.low[name] <= case.dice[index] <= found.high[name])
    assert level - 0.02 < np.mean(within) < level + 0.08


def test_too_few_patients_for_an_interval() -> None:
    assert (least_patients(0.9), least_patients(0.8), least_patients(0.95)) == (9, 4, 19)
    for patients, there in ((8, False), (9, True)):
        found = calibration(fit_lines(cases(patients, scatter=0.1), SIGNS, NAMES)).expect(
            cases(1)[0].signs, BOTH
        )
        assert (found.low is not None, found.high is not None) == (there, there)


def test_conformal_counts_by_hand() -> None:
    scores = np.array([0.4, 0.1, 0.3, 0.2])
    assert conformal(scores, np.ones(4), 4, 0.8) == 0.4  # the fourth of five, the new patient being one
    assert conformal(scores, np.ones(4), 4, 0.6) == 0.3
    assert conformal(scores, np.ones(4), 4, 0.81) is None
    assert conformal(scores, np.array([0.5, 0.5, 1, 1]), 3, 0.75) == 0.4  # two of one patient


@pytest.mark.parametrize("missed", [0.1, 0.3])
def test_bad_volumes_of_new_patients_are_missed_as_often_as_wanted(missed: float) -> None:
    """Of few patients, too: the quantile of theirs alone misses more often than it says."""
    share = []
    for seed in range(100):
        fitted = fit_lines(cases(10, seed=seed, scatter=0.2), SIGNS, NAMES, bad=0.8, missed=missed)
        known = calibration(fitted)
        for patient in range(20):
            own = cases(1, seed=1000 + 20 * seed + patient, scatter=0.2)
            if bad := [one for one in own if one.dice.mean() < 0.8]:
                share.append(np.mean([not known.expect(one.signs, BOTH).flagged for one in bad]))
    assert missed - 0.07 < np.mean(share) <= missed


@pytest.mark.parametrize(
    ("bad", "caution"),
    [
        (
            0.8,
            "the calibration has bad label maps of 6 patients; to promise that the flag misses no more than "
            "10 % takes 9",
        ),
        (0.999, "every label map of the calibration was bad (mean Dice below 0.7): the flag says little"),
        (0.01, "no label map of the calibration was bad, so what a bad one looks like is not known"),
    ],
)
def test_says_why_a_limit_tells_little(bad: float, caution: str) -> None:
    judged = cases(6)
    fitted = fit_lines(judged, SIGNS, NAMES, bad=bad)
    assert calibration(fitted).caution == caution
    worst = [one for one in judged if one.dice.mean() < bad]
    assert fitted.skill.missed == 0
    assert all(calibration(fitted).expect(one.signs, BOTH).flagged for one in worst)
    assert (fitted.limit == bad) == (not worst)
    assert (fitted.skill.auroc is None) == (len(worst) in (0, len(judged)))


def test_nine_patients_with_bad_label_maps_are_enough_for_the_flag() -> None:
    fitted = fit_lines(cases(30), SIGNS, NAMES, bad=0.8)
    assert fitted.skill.bad_patients >= least_patients(0.9)
    assert calibration(fitted).caution == ""


def test_a_structure_that_every_scan_has_and_the_label_map_has_not_is_wrong() -> None:
    plain = cases(20, scatter=0.1)
    calm = dict.fromkeys(SIGNS, np.zeros(2))  # all opinions agree that there is no RV
    only_lv = np.array([False, True])
    nowhere = [Judged(one.patient, calm, np.array([0.0, 0.95]), only_lv, BOTH) for one in plain[::8]]
    fitted = fit_lines(plain + nowhere, SIGNS, NAMES)
    found = calibration(fitted).expect(calm, only_lv)
    assert found.dice["RV"] == 0
    assert found.low is not None
    assert found.high is not None
    assert (found.low["RV"], found.high["RV"]) == (0, 0)
    assert found.dice["LV"] > 0.8
    mirrored = fit_lines(cases(20, scatter=0.1), SIGNS, NAMES).lines["RV"]  # the line itself learns nothing
    np.testing.assert_allclose(fitted.lines["RV"].weights, mirrored.weights, atol=0.02)


def test_a_structure_that_some_scans_lack_is_judged_by_its_signs() -> None:
    judged = cases(20, scatter=0.1)
    without = replace(judged[0], found=np.array([False, True]), there=np.array([False, True]))
    found = calibration(fit_lines([*judged, without], SIGNS, NAMES))
    assert not found.lines["RV"].always
    assert found.lines["LV"].always
    calm = dict.fromkeys(SIGNS, np.zeros(2))
    assert found.expect(calm, without.found) == found.expect(calm, BOTH)


def test_area_under_the_curve_is_that_of_mann_and_whitney() -> None:
    generator = np.random.default_rng(0)
    score, positive = generator.integers(0, 9, 80), generator.random(80) < 0.4
    ones, others = score[positive], score[~positive]
    expected = mannwhitneyu(ones, others).statistic / len(ones) / len(others)
    assert auroc(score, positive) == pytest.approx(expected)


def test_survives_being_stored() -> None:
    found = calibration(fit_lines(cases(10, scatter=0.1), SIGNS, NAMES))
    assert Calibration.model_validate_json(found.model_dump_json()) == found
