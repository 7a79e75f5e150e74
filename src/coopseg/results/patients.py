"""From scores of volumes to scores of patients: the one reduction on which every table and report rests."""

from __future__ import annotations

import pandas as pd

MEAN = "mean"  # name of the foreground mean among the classes
FAILURES = (0.5, 0.1)  # a volume below this Dice counts as failed
BELOW = tuple(f"dice_below_{limit}" for limit in FAILURES)
SCORED = ("dice", "nsd", "hd95", "assd")  # of a row
MEASURES = ("dice", *BELOW, "nsd", "hd95", "assd", "distance_missing")
ALL = "all"  # the group of all volumes
GROUPS = (ALL, "phase", "vendor", "site")
VOLUMES = "volumes"


def per_patient(rows: pd.DataFrame) -> pd.DataFrame:
    """Averages copies and phases: a line for each data set, head, class, group, value and patient.

    rows: of `coopseg.evaluation.evaluate`. Class "mean" is added: per volume the mean over its foreground
    classes, so that a volume fails by its mean. Groups are "all" volumes (value ""), and each phase, vendor
    and site (vendor/centre) that is named. Adds to the rows' measures dice_below_0.5 and dice_below_0.1
    (shares of volumes) and distance_missing (share in which truth or prediction was empty, not both), and
    `volumes`, their number.
    """
    if "nsd" not in rows:  # of an earlier version
        rows = rows.assign(nsd=float("nan"))
    rows = rows.astype(dict.fromkeys(SCORED, float))
    rows["distance_missing"] = (rows["distance"] == "one empty").astype(float)
    volume = ["dataset", "case", "patient", "phase", "site", "copy", "head"]
    means = rows.groupby(volume, sort=False)[[*SCORED, "distance_missing"]].mean()
    frame = pd.concat([means.reset_index().assign(**{"class": MEAN}), rows], ignore_index=True)
    for limit, name in zip(FAILURES, BELOW, strict=True):
        frame[name] = (frame["dice"] < limit).astype(float)
    frame = frame.assign(all="", vendor=frame["site"].str.split("/").str[0])
    parts = []
    for group in GROUPS:
        named = frame if group == ALL else frame[frame[group] != ""]
        of_patient = named.groupby(["dataset", "head", "class", group, "patient"], sort=False)
        part = of_patient[list(MEASURES)].mean().assign(volumes=of_patient.size()).reset_index()
        parts.append(part.rename(columns={group: "value"}).assign(group=group))
    return pd.concat(parts, ignore_index=True)


def mean_over(scores: pd.DataFrame, column: str) -> pd.DataFrame:
    """Averages the measures over one column, which goes; what is missing (NaN) is passed over."""
    keys = [name for name in scores.columns if name not in (*MEASURES, VOLUMES, column)]
    return scores.groupby(keys, sort=False)[list(MEASURES)].mean().reset_index()
