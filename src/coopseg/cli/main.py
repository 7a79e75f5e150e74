"""Defines the program `coopseg`: its verbs, and how an error ends it."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from coopseg import __version__
from coopseg.cli.adapt import adapt
from coopseg.cli.benchmark import benchmark
from coopseg.cli.calibrate import calibrate
from coopseg.cli.console import Printed, fail, note, printable
from coopseg.cli.dicom import import_
from coopseg.cli.evaluate import corrupt, evaluate, report
from coopseg.cli.info import demo, info
from coopseg.cli.measure import measure
from coopseg.cli.predict import export, predict
from coopseg.cli.serve import serve
from coopseg.cli.train import train
from coopseg.cli.validate import validate
from coopseg.errors import CoopsegError, PartlyDone, Stopped

logging.getLogger("coopseg").setLevel(logging.INFO)
logging.getLogger("coopseg").addHandler(Printed())
WIDEST = 120  # columns of --help, if the terminal has as many
UsageError: Any = typer.BadParameter.__base__
PARTLY_DONE, WRONG_INPUT, INTERRUPTED, SIGNALLED = 1, 2, 130, 128


class Program(TyperGroup):
    """Turns errors that the user can fix into one line; any other exception is a bug and is raised."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except PartlyDone as partly:
            for error in (*partly.failed, partly):
                fail(error)
            raise typer.Exit(PARTLY_DONE) from None
        except CoopsegError as error:
            fail(error)
            raise typer.Exit(WRONG_INPUT) from None
        except OSError as error:
            if error.filename is None:
                raise
            fail(CoopsegError(f"{error.filename}: {error.strerror}; check the path, its rights and the disk"))
            raise typer.Exit(WRONG_INPUT) from None
        except MemoryError:  # where no file is at hand; those of a file are CoopsegErrors
            fail(CoopsegError("too little memory; free some, or ask for less at once"))
            raise typer.Exit(WRONG_INPUT) from None
        except UsageError as error:  # it names a word of the command line, such as that of a file
            error.message = printable(error.message)
            raise
        except Stopped as stopped:
            note(str(stopped))
            raise typer.Exit(SIGNALLED + stopped.signal) from None
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit as end:
            if end.code == SIGNALLED + signal.SIGTERM:
                note("stopped by SIGTERM")
            raise


app = typer.Typer(
    cls=Program,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)
for verb in (
    import_,
    validate,
    train,
    adapt,
    calibrate,
    predict,
    measure,
    serve,
    export,
    corrupt,
    evaluate,
    benchmark,
    report,
    info,
    demo,
):
    app.command(verb.__name__.rstrip("_"))(verb)  # import is a word of Python's own


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="show the version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Train and test segmentation networks that stay right on scans they were not trained for."""


def run() -> None:
    """Runs the program."""
    signal.signal(signal.SIGTERM, _terminate)
    app()


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as an error would, so that no half-filled output is left."""
    raise SystemExit(SIGNALLED + number)
