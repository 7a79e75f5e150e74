"""Compares label maps of trained models with the experts' as a hospital reads them: by numbers and anatomy.

    python scripts/clinical.py --data DATA [--split SPLIT] [--part PART] --out JSON NAME=RUN [NAME=RUN ...]

Each RUN is the folder of a training, called NAME in the tables. Of a data set that the split knows (by
default the run's own), only the patients of PART (by default test) are taken. JSON gets every patient; three
tables are printed, a line for each training and head, as predicted and mended as by `--anatomy`:

- Ejection fraction of each ventricle, the model's minus the experts', in percentage points: mean (bias) and
  limits of agreement, each with its 95 % interval by bootstrap over patients. Fractions are ratios, so that
  no true voxel spacing is needed.
- Dice, mean over structures, phases, patients; HD95 in mm if `--spacing true` says that headers hold it; and
  in how many volumes there is something that no anatomy has, by kind, the experts' own label maps among them.
- Volumes of each ventricle as shares of the experts': within the slices in which they draw it, and beyond.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from coopseg.cases.splits import Part, find_split, select_part, split_of_run
from coopseg.evaluation.metrics import surface_scores
from coopseg.inference.predictor import load_predictor
from coopseg.measures.anatomy import Violations, find_violations
from coopseg.measures.frames import NOMINAL, Frame, count_frame
from coopseg.measures.function import VENTRICLES, measure_patient
from coopseg.measures.mending import mend_heads
from coopseg.measures.overlap import dice
from coopseg.measures.stack import to_stack
from coopseg.results.statistics import limits_of_agreement
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan

EXPERT = "expert"
Counted = dict[str, dict[str, list[Frame]]]  # patient, reader, a frame for each phase


def main(arguments: argparse.Namespace) -> None:
    """Predicts every volume of the part by every run, keeps what was found, and prints the tables."""
    found = [row for given in arguments.runs for row in rows_of(given, arguments)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print("| training | label maps | ventricle | n | left out | expert | bias | lower limit | upper limit |")
    print("|---" * 9 + "|")
    for row in found:
        for ventricle in VENTRICLES if row["reader"] != EXPERT else ():
            print(agreement_line(row, ventricle))
    print("\n| training | label maps | Dice | HD95, mm | volumes | " + " | ".join(KINDS) + " |")
    print("|---" * (5 + len(KINDS)) + "|")
    for row in found:
        kinds = [str(row["violations"].get(kind, 0)) for kind in KINDS]
        numbers = [
            f"{mean(row[key]):.{digits}f}" if row[key] else "" for key, digits in (("dice", 4), ("hd95", 2))
        ]
        print(f"| {' | '.join([row['training'], row['reader'], *numbers, str(row['volumes']), *kinds])} |")
    print("\n| training | label maps | volume, mean share of the experts' | in their slices | beyond |")
    print("|---" * 5 + "|")
    for row in found:
        for what, own in row["shares"].items():
            shares = np.mean(list(own.values()), axis=0)
            print(f"| {row['training']} | {row['reader']} | {what} | {shares[0]:.2f} | {shares[1]:.2f} |")


KINDS = ("loose pieces", "holes", "LV beside myocardium", "not found")


def kinds_of(found: Violations) -> list[str]:
    """Names the kinds of violations that a volume has."""
    flags = (found.pieces, found.holes, found.gaps.voxels, found.absent)
    return [kind for kind, flag in zip(KINDS, flags, strict=True) if flag]


def rows_of(given: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Predicts every volume by one NAME=RUN; returns a row for each way in which label maps were made."""
    training, run = given.split("=", 1)
    model, predictor = load_predictor(run)
    names, dataset = model.names, open_dataset(arguments.data)
    split = find_split(arguments.split) if arguments.split else split_of_run(Path(run))
    dataset = select_part(dataset, split, arguments.part)
    counted: Counted = defaultdict(lambda: defaultdict(list))
    scores: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    violations: dict[str, Counter[str]] = defaultdict(Counter)
    shares: dict[str, dict[str, dict[str, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    for done, ref in enumerate(dataset.items, start=1):
        scan, label = load_scan(ref), load_label(ref)
        assert label is not None, ref.id
        expert = labels_to_indices(label.data, dataset.labels, names=names, path=ref.label)
        heads = predictor(scan, ref.normalised)
        maps = {EXPERT: expert, **heads}
        maps |= {f"{head}, mended": each for head, each in mend_heads(heads, names, scan.affine)[0].items()}
        for reader, labels in maps.items():
            frame = count_frame(labels, names, scan.affine, name=ref.id, phase=ref.phase, spacing=NOMINAL)
            counted[ref.patient][reader].append(frame)
            violations[reader].update(kinds_of(find_violations(labels, names, scan.affine)))
            if reader != EXPERT:
                own, classes = scores[reader], range(1, len(names))
                own["dice"][ref.patient].append(float(dice(labels, expert, classes=classes).mean()))
                for each in VENTRICLES:
                    masks = [
                        to_stack(each_map == names.index(each), scan.affine, "auto")
                        for each_map in (labels, expert)
                    ]
                    shares[reader][f"{each} {ref.phase}"][ref.patient] = by_slices(*masks)
                if arguments.spacing == "true":
                    own["hd95"][ref.patient] += [
                        surface_scores(labels == each, expert == each, spacing=scan.spacing)[0]
                        for each in classes
                    ]
        print(f"{training}: {done} of {len(dataset.items)}: {ref.id}", file=sys.stderr)
    return [
        {
            "training": training, "data": dataset.name, "split": split.name, "part": arguments.part,
            "reader": reader, "volumes": len(dataset.items), "violations": dict(violations[reader]),
            **{key: by_patient(scores[reader][key]) for key in ("dice", "hd95")},
            "shares": shares[reader],
            "fractions": {patient: fractions(own[reader], names) for patient, own in counted.items()},
            "expert": {patient: fractions(own[EXPERT], names) for patient, own in counted.items()},
        }
        for reader in violations
    ]  # fmt: skip


def by_slices(found: np.ndarray, expert: np.ndarray) -> tuple[float, float]:
    """Returns what was found in the slices of the expert, and beyond, as shares of the expert's voxels.

    found, expert: (slices, rows, columns) bool.
    """
    drawn, whole = expert.any((1, 2)), max(int(expert.sum()), 1)
    return float(found[drawn].sum() / whole), float(found[~drawn].sum() / whole)


def by_patient(values: dict[str, list[float]]) -> dict[str, float]:
    """Averages over the phases and structures of each patient where there is a number."""
    return {patient: float(np.nanmean(own)) for patient, own in values.items() if not np.isnan(own).all()}


def mean(values: dict[str, float]) -> float:
    """Averages over patients."""
    return float(np.mean(list(values.values())))


def fractions(frames: list[Frame], names: tuple[str, ...]) -> dict[str, float]:
    """Returns the ejection fraction of each ventricle that has one, percent."""
    values = measure_patient(frames, names).values
    found = {each: values.get(f"{each.lower()}_ef_percent") for each in VENTRICLES}
    return {each: value for each, value in found.items() if isinstance(value, float)}


def agreement_line(row: dict[str, Any], ventricle: str) -> str:
    """Returns a line of the table of ejection fractions."""
    pairs = [
        (own[ventricle], row["expert"][patient][ventricle])
        for patient, own in row["fractions"].items()
        if ventricle in own and ventricle in row["expert"][patient]
    ]
    values = np.array(pairs, float).reshape(-1, 2)
    agreement = limits_of_agreement(values[:, 0] - values[:, 1])
    cells = [
        row["training"],
        row["reader"],
        ventricle,
        str(len(values)),
        str(len(row["fractions"]) - len(values)),
    ]
    cells.append(f"{values[:, 1].mean():.1f}" if len(values) else "")
    if agreement:
        for value, (low, high) in (
            (agreement.bias, agreement.bias_interval),
            (agreement.low, agreement.low_interval),
            (agreement.high, agreement.high_interval),
        ):
            cells.append(f"{value:+.1f} ({low:+.1f} to {high:+.1f})")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", help="a split, if not the run's own")
    parser.add_argument("--part", choices=get_args(Part), default="test")
    parser.add_argument("--spacing", choices=("true", "nominal"), default="nominal")
    parser.add_argument("--out", type=Path, required=True)
    main(parser.parse_args())
