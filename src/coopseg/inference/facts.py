"""Says what a prediction depends on, for records, pages and journals."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coopseg.cases.splits import has_ended
from coopseg.inference.model import Model, fingerprint
from coopseg.inference.predictor import HEADS, Predictor
from coopseg.quality.calibration import Calibration
from coopseg.text import Json, counted
from coopseg.versions import versions


@dataclass(frozen=True)
class ModelFacts:
    """Names a model in a record; a predictor that is no model of this package has no hash."""

    path: str
    names: tuple[str, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class Facts:
    """Says what a prediction depends on, as predict.json and evaluation.json hold it; None is not known.

    anatomy: the rules by which label maps were mended, None if they were not. calibration: see
    `describe_calibration`.
    """

    model: ModelFacts
    model_settings: Json | None = None
    refinements: int = 0
    device: str | None = None
    precision: str | None = None
    scan_statistics: float | None = None
    anatomy: str | None = None
    calibration: Json | None = None
    training_ended: bool | None = None
    versions: Mapping[str, str] = field(default_factory=versions)
    command: Sequence[str] = field(default_factory=lambda: sys.argv)

    @property
    def deciding(self) -> Json:
        """Returns what every label map depends on, so that those of other settings are not mixed."""
        return {
            "model": self.model.sha256 or self.model.path,
            "refinements": self.refinements,
            "precision": self.precision,
            "scan statistics": self.scan_statistics,
            "anatomy": self.anatomy,
            "calibration": (self.calibration or {}).get("sha256"),
            "coopseg": self.versions["coopseg"],
        }

    def in_short(self, head: str) -> str:
        """Returns weights, head, and whether label maps were mended, in a few letters."""
        mended = "mended" if self.anatomy else ""
        return " ".join(part for part in ((self.model.sha256 or "")[:8], head, mended) if part)

    def in_a_line(self, head: str) -> str:
        """Returns the same, with the whole hash, for a comment."""
        weights = f"with SHA-256 {self.model.sha256}" if self.model.sha256 else "without a hash"
        mended = "mended" if self.anatomy else "not mended"
        return f"by coopseg {self.versions['coopseg']}: model {weights}, head {head}, label maps {mended}"

    def in_words(self, head: str) -> dict[str, str]:
        """Returns the same for people to read. head: whose label maps are shown."""
        ended = {None: "", True: "", False: ", whose training has not ended"}[self.training_ended]
        words = {
            "model": f"{self.model.path}{ended}",
            "weights": f"SHA-256 {self.model.sha256[:16]}…" if self.model.sha256 else "",
            "head": head,
            "STN applied": counted(self.refinements, "time") if head == HEADS[1] else "",
            "scan statistics": "" if self.scan_statistics is None else f"K = {self.scan_statistics:g}",
            "anatomy": f"mended ({self.anatomy})" if self.anatomy else "",
            "expected Dice": (self.calibration or {}).get("in_words", ""),
            "precision": self.precision or "",
            "versions": ", ".join(f"{name} {self.versions[name]}" for name in ("coopseg", "torch")),
        }
        return {name: value for name, value in words.items() if value}


def describe_calibration(calibration: Calibration | None) -> Json | None:
    """Returns what a record says of a calibration: by whom it was made, its limit and its skill."""
    if calibration is None:
        return None
    kept = calibration.model_dump(mode="json", exclude={"reference", "lines", "signs", "known"})
    return kept | {
        "in_words": calibration.describe(),
        "sha256": fingerprint({}, calibration.model_dump_json()),
    }


def describe_predictor(model: Model, predictor: Predictor, *, precision: str) -> Facts:
    """Returns what a prediction depends on, for records."""
    return Facts(
        ModelFacts(str(model.path), model.names, model.sha256),
        model_settings=model.settings.model_dump(mode="json"),
        refinements=predictor.refinements,
        device=str(predictor.device),
        precision=precision,
        scan_statistics=predictor.scan_statistics,
        training_ended=has_ended(model.path.parent),
    )
