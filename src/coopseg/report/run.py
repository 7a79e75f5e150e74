"""`report`: run folders and their evaluations to one page and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from coopseg.report.collect import collect
from coopseg.report.page import render
from coopseg.report.sources import read_runs
from coopseg.scans.files import write_atomically
from coopseg.scans.new_folder import check_new, new_folder

PAGE, CONTENT = "report.html", "report.json"


def write_report(
    runs: str | Path | Sequence[str | Path], out: str | Path, *, evaluations: Sequence[str | Path] = ()
) -> Path:
    """Write OUT/report.html, a page that needs no other file, and OUT/report.json, all that it shows.

    runs: folders of `train`, each RUN or NAME=RUN. Runs of one NAME, by default the method in their
    settings, are seeds or draws of one method and are pooled. evaluations: folders of `evaluate` beside those
    that lie directly in a run folder; each belongs to the run whose best weights it evaluated. out: new or
    empty folder, filled whole or not at all. Returns the path of the page.
    Raises CoopsegError as `read_runs` does.
    """
    out = Path(out)
    check_new(out)
    listed = [runs] if isinstance(runs, str | Path) else list(runs)
    content = collect(read_runs(listed, evaluations=evaluations))
    page = render(content)
    with new_folder(out) as folder:
        text = json.dumps(content, indent=1, allow_nan=False)
        write_atomically(folder / CONTENT, (text + "\n").encode())
        write_atomically(folder / PAGE, page.encode())
    return out / PAGE
