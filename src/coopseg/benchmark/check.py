"""Whether what is asked for can be done, as far as that can be said without the data."""

from __future__ import annotations

from coopseg.benchmark.request import Request, settings_of
from coopseg.config.methods import MAIN_ROWS, POST_DAE, TITLES
from coopseg.errors import CoopsegError
from coopseg.text import listing, shorten
from coopseg.training.rival import make_rivals


def check_request(request: Request) -> None:
    """Raise CoopsegError for rows that there are not, clashing names and numbers out of range."""
    for row in request.rows:
        if row != POST_DAE:  # of POST_DAE@K the settings are those of what it stands on
            settings = settings_of(request, row, seed=0)
            if ":" in row:  # a class of the user's: better to fail now than in every job
                make_rivals(settings.rivals)
    names = [*request.rows, *(entry.name for entry in request.predictors)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CoopsegError(f"two rows are called {listing(twice)}; give the predictor another name")
    if wrong := [entry.name for entry in request.predictors if not _is_name(entry.name)]:
        raise CoopsegError(
            f"a predictor cannot be called {shorten(wrong[0])}: use letters, digits and - _ . +"
        )
    if taken := [entry.name for entry in request.predictors if entry.name in TITLES]:
        raise CoopsegError(f"a predictor cannot be called {taken[0]}, the name of a training; choose another")
    if request.copies < 1:
        raise CoopsegError(f"copies must be 1 or more, found {request.copies}")
    if wrong_severities := [value for value in request.severities if not value >= 0]:
        raise CoopsegError(f"severities must be 0 or more, found {wrong_severities[0]}")
    if bool(request.severities) != bool(request.severity_methods):
        raise CoopsegError("--severities and --severity-methods belong together; give both or none")
    if absent := [name for name in request.severity_methods if name not in names]:
        raise CoopsegError(f"--severity-methods: {listing(absent)} not in the grid; add them with --methods")
    if request.equal_time and not set(MAIN_ROWS) & set(request.rows):
        raise CoopsegError(
            f"--equal-time needs one of the rows {listing(MAIN_ROWS)}; add them with --methods"
        )
    if not names:
        raise CoopsegError("nothing to do: give --methods or --predictor")


def _is_name(name: str) -> bool:
    return all(letter.isalnum() or letter in "-_.+ " for letter in name) and not name.startswith(".")
