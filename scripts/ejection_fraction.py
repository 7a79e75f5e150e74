"""Compares ejection fractions by a model with those by the experts' labels: bias and limits of agreement.

    python scripts/ejection_fraction.py RUN DATA [PART]

RUN is a run folder, DATA a data set with ED and ES of each patient. Of a data set that the run knows, only
the patients of PART (by default test) are taken. It prints a line for each head, as predicted and mended as
by `--anatomy`, and for each ventricle: how many patients have both fractions; the mean of the experts'; the
model's minus theirs, mean (bias) and limits of agreement in percentage points, each with its 95 % interval by
bootstrap over patients. Fractions are ratios, so that no true voxel spacing is needed.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import cast, get_args

import numpy as np

from coopseg.cases.splits import Part, select_part, split_of_run
from coopseg.inference.predict import load_predictor
from coopseg.measures.frames import NOMINAL, Frame, count_frame
from coopseg.measures.function import VENTRICLES, measure_patient
from coopseg.measures.mending import mend_heads
from coopseg.results.statistics import limits_of_agreement
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_label, load_scan

Reader = tuple[str, str]  # head, and whether its label maps are mended
EXPERT: Reader = ("", "expert")


def main(run: Path, data: Path, part: Part) -> None:
    """Predicts every volume of the part and prints the table."""
    model, predictor = load_predictor(run)
    dataset = select_part(open_dataset(data), split_of_run(run), part)
    counted: dict[str, dict[Reader, list[Frame]]] = defaultdict(lambda: defaultdict(list))
    for done, ref in enumerate(dataset.items, start=1):
        scan, label = load_scan(ref), load_label(ref)
        if label is None:
            continue
        heads = predictor(scan, ref.normalised)
        maps: dict[Reader, np.ndarray] = {
            EXPERT: labels_to_indices(label.data, dataset.labels, names=model.names, path=ref.label),
            **{(head, "as predicted"): found for head, found in heads.items()},
            **{(h, "mended"): found for h, found in mend_heads(heads, model.names, scan.affine)[0].items()},
        }
        for reader, labels in maps.items():
            frame = count_frame(
                labels, model.names, scan.affine, name=ref.id, phase=ref.phase, spacing=NOMINAL
            )
            counted[ref.patient][reader].append(frame)
        print(f"{done} of {len(dataset.items)}: {ref.id}", file=sys.stderr)
    print(f"{dataset.name}, {part}: ejection fraction in percentage points, the model's minus the expert's")
    print("| head | label maps | ventricle | n | left out | expert | bias | lower limit | upper limit |")
    print("|---" * 9 + "|")
    readers = dict.fromkeys(reader for own in counted.values() for reader in own if reader != EXPERT)
    for reader in readers:
        for ventricle in VENTRICLES:
            print(line(reader, ventricle, counted, model.names))


def line(
    reader: Reader, ventricle: str, counted: dict[str, dict[Reader, list[Frame]]], names: tuple[str, ...]
) -> str:
    """Returns a line of the table."""
    pairs = []
    for own in counted.values():
        found = [
            measure_patient(own[each], names).values.get(f"{ventricle.lower()}_ef_percent")
            for each in (reader, EXPERT)
        ]
        if all(isinstance(value, float) for value in found):
            pairs.append(found)
    values = np.array(pairs, float).reshape(-1, 2)
    agreement = limits_of_agreement(values[:, 0] - values[:, 1])
    cells = [*reader, ventricle, str(len(values)), str(len(counted) - len(values))]
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
    if len(sys.argv) not in (3, 4) or (sys.argv[3:] and sys.argv[3] not in get_args(Part)):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), cast("Part", (sys.argv[3:] or ["test"])[0]))
