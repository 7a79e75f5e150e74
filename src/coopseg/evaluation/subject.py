"""Describes what is evaluated: a model of this package, or anything else that turns scans into label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coopseg.cases.splits import Split
from coopseg.evaluation.domain import seen_in_training, split_of_model
from coopseg.evaluation.predictions import Predict
from coopseg.inference.predict import describe_predictor, load_predictor
from coopseg.scans.types import Dataset
from coopseg.workers import one_thread


@dataclass(frozen=True)
class Subject:
    """Holds something that predicts, and what is known about it.

    predict: see `Predictions`. names: its classes, background first. head: the one whose predictions are
    drawn. in_turn: two threads must not call it at once. facts: entries for the record. source: the folder of
    its training, or a name if there is none. trained: the split of its training, None if unknown.
    """

    predict: Predict
    names: tuple[str, ...]
    head: str
    in_turn: bool
    facts: dict[str, Any]
    source: Path
    trained: Split | None = None

    def warnings(self, datasets: Sequence[Dataset]) -> tuple[str, ...]:
        """Returns a line for everything that makes its scores on these data sets doubtful."""
        return seen_in_training(self.trained, datasets, folder=self.source)


def load_subject(
    model: str | Path,
    *,
    refinements: int = 1,
    device: str = "auto",
    precision: str = "32",
    scan_statistics: float | str | None = None,
) -> Subject:
    """Loads a model from disk. Raises CoopsegError as `predict` does."""
    with one_thread():  # an ONNX session keeps the number of threads that it finds when it is opened
        loaded, predictor = load_predictor(
            model,
            refinements=refinements,
            device=device,
            precision=precision,
            scan_statistics=scan_statistics,
        )
    return Subject(
        predict=predictor,
        names=loaded.names,
        head=predictor.heads[-1],
        in_turn=predictor.device.type != "cpu",
        facts=describe_predictor(loaded, predictor, precision=precision),
        source=loaded.path.parent,
        trained=split_of_model(loaded),
    )
