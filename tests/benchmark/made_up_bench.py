"""A benchmark folder made by hand: every score known, nothing trained."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coopseg.benchmark.collect import read_results
from coopseg.evaluation.tables import write_tables
from coopseg.results.table import to_json

CLASSES = ("LV", "MYO", "RV")
KINDS = ("RandBias", "RandGhost")
IN_SCAN_GRID = dict.fromkeys(
    ("no artefact (scan grid)", "RandBias (scan grid)", "RandGhost (scan grid)"), "corrupted"
)
OWN = tuple(f"p{number}" for number in range(1, 9))
OTHER = tuple(f"q{number}" for number in range(1, 7))
HEADS = ("FTN", "FTN+STN")
ERROR = "CUDA out of memory_50% & more"
Score = Callable[[dict[str, Any]], float]


def read_table(bench: Path) -> dict[str, Any]:
    """What results.json holds of a benchmark folder, but the request."""
    return to_json(read_results(bench))


def random_score(facts: dict[str, Any]) -> float:
    """A number in [0, 1] that depends on everything a row of metrics.json says, and on the job."""
    text = repr(sorted(facts.items())).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) / 2**32


def metric_rows(
    job: dict[str, Any],
    datasets: dict[str, str],
    heads: Sequence[str],
    score: Score,
    *,
    copies: int = 2,
    **more: Any,
) -> list[Any]:
    """Rows as `coopseg.evaluation.evaluate` returns them: both phases; sites where it is another's set."""
    rows = []
    for dataset, domain in datasets.items():
        for number, patient in enumerate(OTHER if domain == "other" else OWN):
            site = ("B/2", "C/3", "C/4")[number % 3] if domain == "other" else ""
            for phase in ("ED", "ES"):
                for copy in range(1, copies + 1) if domain == "corrupted" else (0,):
                    case = f"{patient}_{phase}" + (f"_copy{copy}" if copy else "")
                    facts = {"dataset": dataset, "case": case, "patient": patient, "phase": phase,
                             "site": site, "copy": copy}  # fmt: skip
                    for head in heads:
                        for name in CLASSES:
                            at = facts | {"head": head, "class": name}
                            dice = score(
                                at | {key: job[key] for key in ("row", "draw", "seed", "budget")} | more
                            )
                            rows.append(at | {"dice": dice, **distances(dice, name), "seconds": 0.5})
    return rows


def distances(dice: float, name: str) -> dict[str, Any]:
    """RV is missing where its Dice is below 0.2; else HD95 is ten times what Dice lacks."""
    if name == "RV" and dice < 0.2:
        return {"hd95": math.nan, "assd": math.nan, "nsd": 0.0, "distance": "one empty"}
    return {"hd95": 10 * (1 - dice), "assd": 2 * (1 - dice), "nsd": dice**2, "distance": "measured"}


RUN = {  # of every run.json, beside its steps
    "settings": {"method": "standard", "seed": 0, "losses": {"stn": True}}, "warnings": [],
    "data": {"name": "ACDC", "labels": ["background", "RV"]},
    "split": {"name": "A", "train": ["t"], "validate": ["v"], "test": ["p"]},
}  # fmt: skip


class Bench:
    """A benchmark folder that grows job by job."""

    def __init__(self, folder: Path, *, cross: bool = True, score: Score = random_score) -> None:
        self.folder, self.score = folder, score
        self.datasets = {"ACDC": "intra", **dict.fromkeys(KINDS, "corrupted")}
        if cross:
            self.datasets["M&Ms"] = "other"
        self.request: dict[str, Any] = {
            "data": "/data/acdc", "cross": "M&Ms=/data/mnms" if cross else None, "split": "acdc-dev",
            "preset": "cpu", "precision": "32", "device": "cpu", "settings": {}, "layout": "auto",
            "labels": None, "spacing": "true", "copies": 2, "seed_of_corruption": 0, "equal_time": False,
            "severities": [], "severity_methods": [], "predictors": [], "blocks": [],
            "started": "2026-11-25T10:00:00", "versions": {"torch": "2.13.0"},
            "command": ["/x/bin/coopseg", "benchmark", "--data", "/data/acdc", "--out", "bench"],
        }  # fmt: skip
        folder.mkdir(parents=True)
        self.save()

    def save(self) -> None:
        """Write benchmark.json."""
        (self.folder / "benchmark.json").write_text(json.dumps(self.request))

    def ask(self, methods: Sequence[str], draws: Sequence[str] = ("A",), seeds: Sequence[int] = (0,)) -> None:
        """Append a block to the request."""
        self.request["blocks"].append({"methods": [*methods], "draws": [*draws], "seeds": [*seeds]})
        self.save()

    def job(
        self, row: str, draw: str = "A", seed: int = 0, *, budget: str = "steps", kind: str = "train"
    ) -> Path:
        """A job that waits; it is asked for, where it was not."""
        self._ask_for(row, draw, seed, budget=budget, kind=kind)
        name = f"{row}-{draw}-{seed}" + ("-equal-time" if budget == "time" else "")
        folder = self.folder / "jobs" / name
        folder.mkdir(parents=True)
        facts = {
            "id": name,
            "row": row,
            "kind": kind,
            "draw": draw,
            "seed": seed,
            "budget": budget,
            "needs": [],
        }
        (folder / "job.json").write_text(json.dumps(facts))
        return folder

    def _ask_for(self, row: str, draw: str, seed: int, *, budget: str, kind: str) -> None:
        if kind == "predictor":
            self.request["predictors"].append({"name": row, "target": f"{row}.onnx"})
        elif not any(
            row in b["methods"] and draw in b["draws"] and seed in b["seeds"] for b in self.request["blocks"]
        ):
            self.request["blocks"].append({"methods": [row], "draws": [draw], "seeds": [seed]})
        self.request["equal_time"] |= budget == "time"
        self.save()

    def fail(self, row: str, draw: str = "A", seed: int = 0) -> None:
        """A job that failed."""
        outcome = {"error": ERROR, "kind": "OutOfMemoryError", "log": "a\n<b>", "when": "2026-11-25T11:00:00"}
        (self.job(row, draw, seed) / "error.json").write_text(json.dumps(outcome))

    def finish(
        self,
        row: str,
        draw: str = "A",
        seed: int = 0,
        *,
        budget: str = "steps",
        kind: str = "train",
        heads: Sequence[str] = HEADS,
        severities: Sequence[float] = (),
        pictures: bool = False,
        beside: bool = False,
    ) -> Path:
        """A job that finished; a predictor's record takes every clean data set for another site.

        A predictor is tested on copies in the scan's grid, and so is what stands `beside` it.
        """
        folder = self.job(row, draw, seed, budget=budget, kind=kind)
        facts = json.loads((folder / "job.json").read_text())
        datasets = self.datasets
        if kind == "predictor":
            clean = {name: domain for name, domain in datasets.items() if domain != "corrupted"}
            datasets = clean | IN_SCAN_GRID
        rows = metric_rows(facts, datasets, heads, self.score)
        write_tables(rows, folder / "evaluation")
        domains = {
            name: "other" if kind == "predictor" and domain == "intra" else domain
            for name, domain in datasets.items()
        }
        index = self._slices(folder / "evaluation", heads, datasets) if pictures else []

        def described(domains: dict[str, str]) -> list[dict[str, Any]]:
            return [{"name": name, "domain": domain, "volumes": 16,
                     "patients": [*(OTHER if datasets.get(name) == "other" else OWN)]}
                    for name, domain in domains.items()]  # fmt: skip

        record = {
            "model": {"path": "x", "sha256": f"sha-{folder.name}", "names": ["background", *CLASSES]},
            "data": described(domains), "slices": index, "versions": {"torch": "2.13.0"}, "warnings": [],
        }  # fmt: skip
        (folder / "evaluation" / "evaluation.json").write_text(json.dumps(record))
        if beside:
            write_tables(metric_rows(facts, IN_SCAN_GRID, heads, self.score), folder / "scan-grid")
            more = record | {"data": described(IN_SCAN_GRID), "slices": []}
            (folder / "scan-grid" / "evaluation.json").write_text(json.dumps(more))
        if kind != "predictor":
            (folder / "training").mkdir()
            steps = 600 if budget == "steps" else 250
            (folder / "training" / "run.json").write_text(json.dumps({"steps": steps, **RUN}))
        for severity in severities:
            kinds = {name: domain for name, domain in self.datasets.items() if domain == "corrupted"}
            rows = metric_rows(facts, kinds, heads, self.score, copies=1, severity=severity)
            write_tables(rows, folder / "severities" / str(severity))
            (folder / "severities" / str(severity) / "evaluation.json").write_text(
                json.dumps(record | {"slices": []})
            )
        result = {**facts, "steps": 600, "seconds": 120.0, "training_seconds": 100.0,
                  "evaluation_seconds": 20.0, "finished": "2026-11-25T12:00:00", "machine": "x"}  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))
        return folder

    def probe(self, row: str, seconds: float, memory: float = 1.5) -> None:
        """A row's probe."""
        (self.folder / "probes").mkdir(exist_ok=True)
        facts = {
            "row": row, "seconds_per_step": seconds, "spread": seconds / 10, "peak_memory_gb": memory,
            "steps": 20, "threads": 2, "device": "cpu", "precision": "32", "machine": "x86_64",
        }  # fmt: skip
        (self.folder / "probes" / f"{row}.json").write_text(json.dumps(facts))

    def _slices(self, folder: Path, heads: Sequence[str], datasets: dict[str, str]) -> list[dict[str, Any]]:
        arrays: dict[str, Any] = {}
        index: list[dict[str, Any]] = []
        down, right = np.mgrid[:40, :44]
        radius = np.hypot(down - 20, right - 22)
        truth = np.select([radius < 6, radius < 10, (right < 14) & (radius < 16)], [1, 2, 3], 0).astype(
            np.uint8
        )
        for number, (name, domain) in enumerate(datasets.items()):
            case = f"{OTHER[0] if domain == 'other' else OWN[0]}_ED" + (
                "_copy1" if domain == "corrupted" else ""
            )
            arrays |= {f"{number}/image": truth * 80, f"{number}/truth": truth}
            arrays |= {f"{number}/{head}": np.roll(truth, number, axis=0) for head in heads}
            index.append({"dataset": name, "case": case, "slice": 3, "slices": 6, "spacing": [1.5, 1.5]})
        np.savez_compressed(folder / "slices.npz", **arrays)
        return index


def large_bench(folder: Path) -> Bench:
    """Rows with three draws beside rows with one; a failed job, a waiting one, a predictor, equal time."""
    bench = Bench(folder)
    bench.ask(["standard", "cooperative", "post-dae"], ["A", "B", "C"])
    bench.ask(["randconv", "cooperative-lsm2022", "mixstyle", "dsu"])
    for draw in "ABC":
        bench.finish("standard", draw, pictures=True, severities=[0.5], beside=True)
        bench.finish("cooperative", draw, pictures=True, severities=[0.5])
        bench.fail("post-dae", draw) if draw == "C" else bench.finish("post-dae", draw)
    bench.finish("cooperative-no-latent", "A")
    bench.finish("cooperative-no-latent", "B")
    bench.finish("randconv")
    bench.finish("cooperative-lsm2022", heads=HEADS[:1])
    bench.fail("dsu")
    bench.finish("nnU-Net", "-", kind="predictor", heads=HEADS[:1], pictures=True)
    bench.finish("standard", "A", budget="time")
    bench.finish("randconv", "A", budget="time")
    bench.finish("cooperative-no-latent", "A", budget="time")
    for place, row in enumerate(("standard", "cooperative", "randconv", "cooperative-no-latent")):
        bench.probe(row, 0.2 * (place + 1))
    (folder / "probes" / "dsu.json").write_text(json.dumps({"row": "dsu", "error": ERROR}))
    return bench
