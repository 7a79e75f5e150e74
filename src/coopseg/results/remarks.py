"""Says in lines what a user should know of label maps and scores, by the records beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coopseg.cases.splits import ADAPTED, RUN
from coopseg.errors import CoopsegError
from coopseg.measures.anatomy import left_out
from coopseg.results.records import RunFile, read_checked
from coopseg.scans.discover import summarise
from coopseg.scans.types import PassedOver
from coopseg.text import merge_lines

MOST_NOTES = 5  # lines on measured patients; the file has all
CLEARLY_LOWER = 0.02  # Dice by which FTN+STN has to stay behind before a word is said


class Remarks(NamedTuple):
    """Holds lines: warnings, and notes on what is as it should be."""

    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def remarks_on_predictor(record: Path) -> Remarks:
    """Says what a predict.json or evaluation.json holds that a user should know.

    That is a training that had not ended, an STN that stayed behind the FTN in it, files that were passed
    over, scan statistics, and a rule of anatomy that could not be applied.
    """
    facts = json.loads(record.read_text(encoding="utf-8"))
    warnings, notes = list[str](), list[str]()
    skipped = [PassedOver(Path(entry["path"]), entry["reason"]) for entry in facts.get("passed_over", ())]
    if line := summarise(skipped):
        warnings.append(f"{line}; {record} names them")
    if facts["anatomy"] and (line := left_out(facts["model"]["names"])):
        warnings.append(f"--anatomy: {line}")
    k, weights = facts["scan_statistics"], Path(facts["model"]["path"])
    if facts["training_ended"] is False:
        warnings.append(f"{weights}: its training has not ended; weights of a validation midway are used")
    refined = facts["training_ended"] and facts["refinements"] and facts.get("head") != "FTN"
    if refined and (behind := stn_behind(validation_of(weights))):
        warnings.append(f"{weights}: {behind}")
    if k is not None:
        notes.append(
            "the first two layers adapt to the brightness and contrast of each scan, to a share of "
            f"{10 / (10 + k):.0%} where it has 10 slices (scan statistics, K = {k:g}); --scan-statistics "
            "off: they stay as in training"
        )
    return Remarks(tuple(warnings), tuple(notes))


def remarks_on_measures(record: Path) -> Remarks:
    """Says what a measures.json holds that a user of its numbers should know."""
    found = json.loads(record.read_text(encoding="utf-8"))
    lines = [(patient["patient"], line) for patient in found["patients"] for line in patient["notes"]]
    merged = merge_lines(lines)
    notes = merged[:MOST_NOTES]
    if left := merged[MOST_NOTES:]:
        notes.append(f"and {len(left)} more notes on patients, in {record}")
    return Remarks(tuple(f"not measured: {line}" for line in found["failed"]), tuple(notes))


def remark_on_scan(scan: str, warnings: Sequence[str], record: str) -> str:
    """Says the first of a scan's warnings, and how many more `record` holds."""
    more = f" (and {len(warnings) - 1} more, see {record})" if len(warnings) > 1 else ""
    return f"{scan}: {warnings[0]}{more}"


def validation_of(weights: Path) -> Mapping[str, Any]:
    """Returns the validation at which weights of a run folder were written; {} if its record does not say."""
    from coopseg.inference.model import BEST, LAST  # which imports torch, and takes seconds

    if (weights.parent / ADAPTED).is_file():
        return {}  # the record is of the model that these weights were adapted from
    try:
        record = read_checked(RunFile, weights.parent / RUN, "train it anew")
        steps = {LAST: record["steps"]} | {BEST[head]: at["step"] for head, at in record["best"].items()}
        step = steps[weights.name]
        return next(dict(entry) for entry in record["validations"] if entry["step"] == step)
    except (CoopsegError, KeyError, TypeError, ValueError, AttributeError, StopIteration):
        return {}  # the label maps and scores are whole without it


def stn_behind(scores: Mapping[str, Mapping[str, float]]) -> str | None:
    """Returns a warning if FTN+STN, which `predict` writes, validates clearly lower than the FTN alone."""
    ftn, refined = (scores.get(head, {}).get("mean") for head in ("FTN", "FTN+STN"))
    if ftn is None or refined is None or refined >= ftn - CLEARLY_LOWER:
        return None
    return (
        f"FTN+STN has a validation Dice of {refined:.3f}, the FTN alone {ftn:.3f}: the STN has learned too "
        "little; train longer, or give --refine 0 to predict and evaluate"
    )
