"""Says of each label map what Dice is expected, and whether its scan is like those of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coopseg.cases.prepare import prepare, restore
from coopseg.config.resolve import OFF
from coopseg.inference.model import Model
from coopseg.inference.predictor import Predictor
from coopseg.measures.remarks import Order, Remark
from coopseg.quality.calibration import Calibration, Expected
from coopseg.quality.distance import distance
from coopseg.quality.opinions import Opinions
from coopseg.quality.signs import read_signs
from coopseg.scans.types import Scan

UNLIKE = 1.5  # times as far from the training scans as the farthest scan known


def find_calibration(model: Model, predictor: Predictor, head: str) -> tuple[Calibration | None, str]:
    """Returns the model's calibration if it speaks of these label maps; else a line that says why not."""
    found = model.calibration
    if found is None:
        return None, "no expected Dice: the model is not calibrated; `coopseg calibrate` does it once"
    asked = {
        "head": (found.head, head),
        "scan statistics": (found.scan_statistics, predictor.scan_statistics),
        "refinements": (found.refinements, predictor.refinements),
    }
    for name, (fitted, now) in asked.items():
        if fitted != now:
            words = [OFF if value is None else value for value in (fitted, now)]
            how = f"calibrated for {name} {words[0]}, these label maps have {words[1]}"
            return (
                None,
                f"no expected Dice: the model is {how}; `coopseg calibrate` with the same options mends it",
            )
    return found, ""


def judge(
    opinions: Opinions, calibration: Calibration, names: Sequence[str]
) -> tuple[Expected, tuple[Remark, ...]]:
    """Returns what is expected of the label map of `calibration.head`, and what a person should look at."""
    head = calibration.head
    expected = calibration.expect(read_signs(opinions, head, names), opinions.found(head))
    remarks = []
    if expected.flagged:
        text = f"expected Dice {expected.describe()}, flagged below {calibration.limit:.2f}"
        remarks.append(Remark(text, "expected Dice", 1 - expected.mean, Order.DOUBTED))
    if reference := calibration.reference:
        times = distance(opinions.code, reference.mean, reference.spread) / reference.farthest
        if times > UNLIKE:
            text = (
                f"unlike the scans of the training: {times:.1f} times as far from them as any scan of the "
                f"training or the calibration (warned above {UNLIKE}); look whether it is of the same kind"
            )
            remarks.append(Remark(text, "unlike training", times, Order.DOUBTED))
    return expected, tuple(remarks)


@dataclass(frozen=True)
class JudgedPredictor:
    """Predicts a 3-D scan as its predictor does, and says what is expected of the label map."""

    predictor: Predictor
    calibration: Calibration
    names: tuple[str, ...]

    def __call__(self, scan: Scan, normalised: bool) -> tuple[dict[str, np.ndarray], Expected]:
        """Returns each head's class indices, (X, Y, Z) uint8, and what is expected of `calibration.head`."""
        case = prepare(scan, self.predictor.settings.cases, normalised=normalised)
        opinions = self.predictor.opinions(case)
        heads = {head: restore(values, case.record) for head, values in opinions.probabilities.items()}
        return heads, judge(opinions, self.calibration, self.names)[0]
