"""`report`: run folders and their evaluations, or a benchmark, to one page and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coopseg.benchmark.request import REQUEST
from coopseg.report.benchmark import collect_benchmark, render_benchmark
from coopseg.report.collect import collect
from coopseg.report.page import render
from coopseg.report.sources import read_runs
from coopseg.scans.files import check_new, is_file, new_folder, write_atomically

PAGE, CONTENT, REPORT = "report.html", "report.json", "report"


def write_report(
    runs: str | Path | Sequence[str | Path], out: str | Path, *, evaluations: Sequence[str | Path] = ()
) -> Path:
    """Write OUT/report.html, a page that needs no other file, and OUT/report.json, all that it shows.

    runs: folders of `train`, each RUN or NAME=RUN. Runs of one NAME, by default the method in their
    settings, are seeds or draws of one method and are pooled. evaluations: folders of `evaluate` beside those
    that lie directly in a run folder; each belongs to the run whose last weights it evaluated. out: new or
    empty folder, filled whole or not at all. Returns the path of the page.
    Raises CoopsegError as `read_runs` does.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> run = coopseg.train(scans, folder / "run", preset="quick", settings=tiny, device="cpu")
    >>> write_report(run, folder / "report").name
    'report.html'
    """
    out = Path(out)
    check_new(out)
    listed = [runs] if isinstance(runs, str | Path) else list(runs)
    content = collect(read_runs(listed, evaluations=evaluations))
    page = render(content)
    with new_folder(out) as folder:
        _write(folder, content, page)
    return out / PAGE


def write_benchmark_report(bench: str | Path, out: str | Path | None = None) -> Path:
    """Write report.html and report.json on a folder of `benchmark`, finished or not.

    out: new or empty folder, filled whole or not at all; default BENCH/report, whose two files are replaced,
    so that it can be written again as jobs finish. Returns the path of the page.
    Raises CoopsegError where `bench` is no such folder.
    """
    if out is not None:
        check_new(Path(out))
    content = collect_benchmark(Path(bench))
    page = render_benchmark(content)
    if out is None:
        folder = Path(bench) / REPORT
        _write(folder, content, page)
        return folder / PAGE
    with new_folder(Path(out)) as folder:
        _write(folder, content, page)
    return Path(out) / PAGE


def is_benchmark(folder: str | Path) -> bool:
    """Whether it is a folder of `benchmark`."""
    return is_file(Path(folder) / REQUEST)


def _write(folder: Path, content: dict[str, Any], page: str) -> None:
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(folder / CONTENT, (text + "\n").encode())
    write_atomically(folder / PAGE, page.encode())
