"""Implements `benchmark`: methods × draws × seeds, trained and tested by the same rules, to one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coopseg.benchmark.data import open_data
from coopseg.benchmark.executor import open_executor
from coopseg.benchmark.grid import make_jobs
from coopseg.benchmark.keep import KEPT, check_restored, kept_request, locate, restore
from coopseg.benchmark.request import READ, REQUEST, Request, ask, read_request, write_request
from coopseg.benchmark.schedule import Benchmark, Report, Schedule, claimed
from coopseg.config.section import Changes
from coopseg.errors import CoopsegError
from coopseg.scans.files import check_new, make_folder, new_folder
from coopseg.text import counted
from coopseg.workers import end_if_imported


def run_benchmark(
    data: str | Path,
    out: str | Path,
    *,
    methods: str | Sequence[str] = (),
    draws: str | Sequence[str] = (),
    seeds: str | Sequence[int] = (),
    predictors: Sequence[str] = (),
    cross: str | Path | None = None,
    split: str | Path = "random",
    preset: str = "default",
    settings: Changes = (),
    copies: int = 3,
    equal_time: bool = False,
    severities: str | Sequence[float] = (),
    severity_methods: str | Sequence[str] = (),
    layout: str = "auto",
    labels: str | None = None,
    spacing: str = "true",
    device: str = "auto",
    precision: str = "32",
    workers: int = 1,
    scheduler: str | None = None,
    progress: Report = lambda line: None,
) -> Benchmark:
    """Train and test every method with every draw and seed, and write the table of all of them into `out`.

    data: folder or NAME=FOLDER. out: new or empty folder. methods: names of rows, or all, main or ablations.
    draws: D is the split "SPLIT-D", the file SPLIT/D.json of a folder, or the seed of a random split; by
    default the split itself. seeds: of the trainings, by default 0. predictors: NAME=TARGET, rows that are
    only tested, see `load_target`. workers: jobs side by side on this machine. scheduler: address of a dask
    scheduler, whose workers then run the jobs. progress: called with every line of progress. The others:
    see `Request`. A list may also be given as text with commas.

    A job that fails is listed, and the others go on. Raises CoopsegError, with nothing written, for anything
    wrong with arguments, data or draws; after any interruption `resume_benchmark` goes on.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> given = {"preset": "quick", "settings": tiny, "copies": 1, "device": "cpu"}
    >>> done = run_benchmark(scans, folder / "bench", methods=["standard"], **given)
    >>> done.finished, done.failed
    (('standard---0',), {})
    """
    given = {name: value for name, value in locals().items() if name in (*READ, *Request.model_fields)}
    end_if_imported()
    out = Path(out)
    check_new(out)
    request = ask(**given)
    opened = open_data(request)
    with open_executor(scheduler, workers) as executor:
        make_folder(out, out)
        with claimed(out, progress):
            check_new(out)  # another process may have been quicker
            write_request(out, request)
            return Schedule(out, opened, executor, progress).run()


def resume_benchmark(
    bench: str | Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    trust: Sequence[str] = (),
    progress: Report = lambda line: None,
    **asked: Any,
) -> Benchmark:
    """Go on with a benchmark: what has finished stays, what failed is tried again.

    trust: methods and predictors of your own, "module:name", that are in the grid already: nothing that is
    read from a folder is imported unless it is named here or in `asked`. asked: arguments of `run_benchmark`
    that add to it: methods, draws and seeds (what is left out of them is as in the grid so far), predictors,
    severities, severity_methods, equal_time. Others have to be what they were; CoopsegError names the first
    that is not, or the process that works in the folder now.

    >>> import coopseg, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> scans = coopseg.write_phantom(folder / "phantom", patients=4, size=48)["acdc"]
    >>> tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    >>> given = {"preset": "quick", "settings": tiny, "copies": 1, "device": "cpu"}
    >>> done = coopseg.run_benchmark(scans, folder / "bench", methods=["standard"], **given)
    >>> sorted(resume_benchmark(done.out, methods=["separate"]).finished)
    ['separate---0', 'standard---0']
    """
    end_if_imported()
    bench = Path(bench)
    read_request(bench)
    with claimed(bench, progress):
        before = read_request(bench)  # now that nobody changes it
        request = before.extended(file=bench / REQUEST, trust=trust, **asked)
        opened = open_data(request)
        with open_executor(scheduler, workers) as executor:
            if request != before:
                write_request(bench, request)
            return Schedule(bench, opened, executor, progress).run()


def restore_benchmark(
    kept: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    cross: str | Path | None = None,
    split: str | None = None,
    predictors: tuple[str, ...] | list[str] = (),
    workers: int = 1,
    scheduler: str | None = None,
    trust: Sequence[str] = (),
    progress: Report = lambda line: None,
    **asked: Any,
) -> Benchmark:
    """Make a benchmark folder `out` from what `keep_benchmark` has written, and go on with what is left.

    data, cross: as they were, wherever they lie now. split: needed if it was a file or folder. Others as in
    `resume_benchmark`. Jobs that were kept have finished; since their weights were not kept, a Post-DAE
    that stands on one fails, and so does a severity that is added to one, each with a line that says what to
    do. Without `data` no job is run: the table is that of the jobs that were kept.
    Raises CoopsegError, with nothing written, for data or splits other than those of the jobs that were kept.
    """
    kept, out = Path(kept), Path(out)
    check_new(out)
    before = kept_request(kept).model_copy(update={"command": tuple(sys.argv)})
    if data is None:
        if asked or cross or split or predictors:
            raise CoopsegError("give --data too; without it what was kept is restored, and nothing is added")
        return _restore_alone(kept, out, before, progress)
    targets = [entry.target for entry in READ["predictors"](predictors)]
    located = locate(before, data=data, cross=cross, split=split, predictors=predictors)
    request = located.extended(file=kept / KEPT, trust=[*trust, *targets], **asked)
    opened = open_data(request)
    check_restored(kept, opened)
    with open_executor(scheduler, workers) as executor:
        with new_folder(out, last=REQUEST) as folder:
            finished = restore(kept, folder, request)
        progress(
            f"{len(finished)} jobs and the seconds of a step restored; to time steps here remove {out}/probes"
        )
        with claimed(out, progress):
            return Schedule(out, opened, executor, progress).run()


def _restore_alone(kept: Path, out: Path, request: Request, progress: Report) -> Benchmark:
    from coopseg.benchmark.collect import write_table

    with new_folder(out, last=REQUEST) as folder:
        finished = restore(kept, folder, request)
    write_table(out)
    others = len(make_jobs(request)) - len(finished)
    progress(f"{counted(len(finished), 'job')} restored; {others} more not run, since no --data is given")
    return Benchmark(out, finished, {})
