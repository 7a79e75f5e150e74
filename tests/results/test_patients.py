"""From volumes to patients, against a slow version."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_bench import metric_rows, random_score

from coopseg.results.patients import MEASURES, VOLUMES, mean_over, per_patient

JOB = {"row": "x", "draw": "A", "seed": 0, "budget": "steps"}
DATASETS = {"ACDC": "intra", "RandBias": "corrupted", "M&Ms": "other"}


def slow(
    rows: list[dict[str, Any]], dataset: str, name: str, group: str, value: str, patient: str
) -> dict[str, float]:
    """What `per_patient` gives, volume by volume."""
    facts: Any = {"all": lambda row: "", "phase": lambda row: row["phase"], "site": lambda row: row["site"],
             "vendor": lambda row: row["site"].split("/")[0]}[group]  # fmt: skip
    own = [r for r in rows if (r["dataset"], r["patient"], facts(r)) == (dataset, patient, value)]
    volumes = []
    for case in dict.fromkeys(row["case"] for row in own):
        scores = [row for row in own if row["case"] == case and name in (row["class"], "mean")]
        measured = [row["hd95"] for row in scores if not math.isnan(row["hd95"])]
        volumes.append({
            "dice": fmean(row["dice"] for row in scores),
            "hd95": fmean(measured) if measured else math.nan,
            "distance_missing": fmean(row["distance"] == "one empty" for row in scores),
        })  # fmt: skip
    known = [v["hd95"] for v in volumes if not math.isnan(v["hd95"])]
    return {
        "dice": fmean(v["dice"] for v in volumes),
        "dice_below_0.5": fmean(v["dice"] < 0.5 for v in volumes),
        "dice_below_0.1": fmean(v["dice"] < 0.1 for v in volumes),
        "hd95": fmean(known) if known else math.nan,
        "distance_missing": fmean(v["distance_missing"] for v in volumes),
    }


def test_per_patient_is_the_slow_version() -> None:
    rows = metric_rows(JOB, DATASETS, ["FTN"], random_score, copies=3)
    found = per_patient(pd.DataFrame(rows))
    assert set(zip(found["dataset"], found["group"], found["value"], strict=True)) == {
        *((name, "all", "") for name in DATASETS),
        *((name, "phase", phase) for name in DATASETS for phase in ("ED", "ES")),
        *(("M&Ms", "vendor", name) for name in "BC"),
        *(("M&Ms", "site", name) for name in ("B/2", "C/3", "C/4")),
    }
    assert not found.duplicated(["dataset", "class", "group", "value", "patient"]).any()
    sizes = {"ACDC": 2, "RandBias": 6, "M&Ms": 2}  # phases, and copies
    whole = found[found["group"] == "all"]
    assert (whole[VOLUMES] == whole["dataset"].map(sizes)).all()
    for line in found.to_dict("records"):
        keys = (line["dataset"], line["class"], line["group"], line["value"], line["patient"])
        for measure, value in slow(rows, *keys).items():
            assert line[measure] == pytest.approx(value, nan_ok=True), (keys, measure)


def test_mean_over_passes_over_what_is_missing() -> None:
    frame = pd.DataFrame({"patient": ["a", "a", "b"], "draw": ["A", "B", "A"]})
    values = {"dice": [0.2, 0.4, 0.9], "hd95": [np.nan, 3.0, np.nan]}
    frame = frame.assign(**dict.fromkeys(MEASURES, 0.0) | values)
    found = mean_over(frame, "draw").set_index("patient")
    assert found["dice"].to_dict() == pytest.approx({"a": 0.3, "b": 0.9})
    assert found["hd95"].to_dict() == pytest.approx({"a": 3.0, "b": math.nan}, nan_ok=True)
