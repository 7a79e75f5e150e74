"""`table/` of a benchmark folder: the results for programs, for people, for a paper, and as figures."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from coopseg.benchmark.figures import FORMATS, draw_figures, save
from coopseg.benchmark.latex import latex
from coopseg.benchmark.markdown import markdown
from coopseg.benchmark.table import read_table
from coopseg.scans.files import write_atomically

TABLE, RESULTS, FIGURES = "table", "results.json", "figures"
NAMES = ["budget", "row", "head", "column", "class", "group", "value"]
NUMBERS = [
    "state", "mean", "interval_low", "interval_high", "sd_draws", "sd_patients", "n", "draws",
    "jobs_finished", "jobs_failed", "jobs", "dice_below_0.5", "dice_below_0.1", "hd95", "assd",
    "distance_missing",
]  # fmt: skip
COMPARED = [
    "budget", "against", "row", "head", "column", "class", "mean", "interval_low", "interval_high", "n",
    "trainings", "draws", "p", "p_holm", "family", "clear",
]  # fmt: skip


def write_table(bench: Path) -> Path:
    """Write BENCH/table/ from all that has finished so far.

    The files: results.json (see `tabulate`), results.csv (a line a cell), differences.csv (a line a
    difference to a baseline), results.md, results.tex and figures/ as SVG and PDF. Can be called again at any
    time; each file is replaced whole. Returns the path of results.md.
    Raises CoopsegError where the folder is no benchmark.
    """
    results = read_table(bench)
    out = bench / TABLE
    texts = {
        RESULTS: json.dumps(results, indent=1, allow_nan=False) + "\n",
        "results.csv": csv(map(_cell, results["cells"]), [*NAMES, *NUMBERS]),
        "differences.csv": csv(map(_difference, results["differences"]), COMPARED),
        "results.md": markdown(results),
        "results.tex": latex(results),
    }
    for name, text in texts.items():
        write_atomically(out / name, text.encode())
    for name, figure in draw_figures(results).items():
        for kind in FORMATS:
            write_atomically(out / FIGURES / f"{name}.{kind}", save(figure, kind))
    return out / "results.md"


def csv(lines: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """A table with these columns; empty is what was not measured."""
    buffer = io.StringIO()
    pd.DataFrame(list(lines), columns=list(columns)).to_csv(buffer, index=False)
    return buffer.getvalue()


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    low, high = cell.get("interval") or (None, None)
    jobs = cell.get("jobs", {})
    return {
        **cell,
        "draws": " ".join(cell.get("draws", {})),
        **{f"dice_below_{limit}": share for limit, share in cell.get("failures", {}).items()},
        "interval_low": low, "interval_high": high,
        "jobs": jobs.get("all"), "jobs_finished": jobs.get("finished"), "jobs_failed": jobs.get("failed"),
    }  # fmt: skip


def _difference(entry: dict[str, Any]) -> dict[str, Any]:
    low, high = entry["interval"] or (None, None)
    return entry | {"draws": " ".join(entry["draws"]), "interval_low": low, "interval_high": high}
