"""Prints results on standard output, all else on standard error; defines options that verbs share."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TextIO

import typer

from coopseg.scans.files import naming
from coopseg.training.request import TrainingRequest

if TYPE_CHECKING:
    from coopseg.demo import DemoProgress
    from coopseg.results.remarks import Remarks
    from coopseg.training.log import Scores, Values
    from coopseg.training.loop import Progress

QUIET = 10.0  # seconds between two lines of progress where there is no terminal


def say(text: str) -> None:
    """Prints a line of the result; what the encoding lacks, as in a damaged file name, is escaped too."""
    encoding = sys.stdout.encoding or "utf-8"
    with naming(Path("standard output")):
        print(printable(text).encode(encoding, "backslashreplace").decode(encoding), flush=True)


def printable(text: str) -> str:
    """Returns text with its control characters escaped: a terminal would obey those in the name of a file."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode()
        for sign in text
    )


def say_report(page: Path) -> None:
    """Prints the summary of a report, and where to read all of it."""
    from coopseg.report.run import CONTENT

    say(json.loads((page.parent / CONTENT).read_text(encoding="utf-8"))["summary"])
    say(f"\nopen in a browser: {page.resolve()}")


def tell(remarks: Remarks) -> None:
    """Prints what is to be said of predictions, scores or measures."""
    for line in remarks.warnings:
        warn(line)
    for line in remarks.notes:
        note(line)


def note(text: str) -> None:
    """Prints a line about what goes on."""
    print(printable(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Prints a warning."""
    note(f"warning: {text}")


class Printed(logging.Handler):
    """Prints what the library logs, as a line about what goes on or as a warning."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        (warn if record.levelno >= logging.WARNING else note)(record.getMessage())


def fail(error: Exception) -> None:
    """Prints an error as one line."""
    note(f"error: {' '.join(str(error).splitlines())}")


def loss_terms(values: Values) -> str:
    """Lists every loss term with its mean since the last record."""
    terms = {name: value for name, value in values.items() if isinstance(value, float)}
    return "  ".join(f"{name} {value:.3f}" for name, value in terms.items() if name != "learning_rate")


def dice_of_heads(scores: Scores) -> str:
    """Lists the Dice of every head: the foreground mean, then each class."""
    return "; ".join(
        f"{head} {own['mean']:.3f} ("
        + ", ".join(f"{name} {value:.3f}" for name, value in own.items() if name != "mean")
        + ")"
        for head, own in scores.items()
    )


class Bar:
    """Shows progress and the time left: live on a terminal, else as a line now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = Console(file=stream or sys.stderr, highlight=False)
        self.live = Live(console=self.console, transient=True) if self.console.is_terminal else None
        self.printed = float("-inf")

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self.console.print(printable(text), markup=False, soft_wrap=True)

    def show(self, share: float, left: float, where: str, detail: str) -> None:
        """Shows the share that is done, in [0, 1], and the seconds left; detail may be empty."""
        from coopseg.text import clock

        rest = f"{clock(left)} left"
        if self.live:
            self.live.update(_draw(share, rest, printable(where), printable(detail)))
        elif time.monotonic() - self.printed >= QUIET or share == 1:
            self.printed = time.monotonic()
            self.say(f"{where}, {rest}" + (f": {detail}" if detail else ""))


class TrainingDisplay(Bar):
    """Shows a training, called with every Progress: a live bar on a terminal, else a line now and then."""

    def __call__(self, progress: Progress) -> None:
        """Shows one event of the training."""
        where = f"step {progress.step} of {progress.steps}"
        if progress.kind == "start":
            sizes = dict(progress.values)
            filled = sizes.pop("filled_share", 0.0)
            method, crop = sizes.pop("method"), sizes.pop("crop")
            for line in (sizes.pop("adapted", None), crop):
                if line:
                    self.say(str(line))
            listed = ", ".join(
                f"{value} {name.replace('_', ' ').removesuffix('s' if value == 1 else '')}"
                for name, value in sizes.items()
            )
            self.say(f"method {method}: {progress.steps} steps on {listed}")
            if isinstance(filled, float) and filled >= 0.0005:  # would be printed as 0.1% or more
                self.say(
                    f"augmentation turns and moves slices: {filled:.1%} of their pixels then lie outside the "
                    "scan and are filled with the nearest one at its border"
                )
        elif progress.kind == "validation":
            self.say(f"{where}: validation Dice {dice_of_heads(progress.scores)}")
        else:
            share = progress.step / progress.steps
            self.show(share, progress.left, where, loss_terms(progress.values))


class DemoDisplay(Bar):
    """Shows the demo, called with every DemoProgress: one bar from beginning to end."""

    text = ""  # text of the current stage

    def __call__(self, progress: DemoProgress) -> None:
        """Shows one event of the demo."""
        if progress.text != self.text:
            self.text = progress.text
            self.say(f"{progress.share:4.0%}  {self.text}")
        event, detail = progress.event, ""
        if event and event.kind == "validation":
            self.say(f"      step {event.step}: validation Dice {dice_of_heads(event.scores)}")
        elif event and event.kind == "train":
            detail = f"step {event.step} of {event.steps}: {loss_terms(event.values)}"
        self.show(progress.share, progress.left, self.text, detail)


def _draw(share: float, rest: str, where: str, detail: str) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=1, completed=share, width=40), rest, where)
    return Group(row, Text(detail))


@contextmanager
def counting(verb: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yields a callback (done, total, name) that shows progress."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress as Bars

        with Bars(console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(verb, total=None)
            yield lambda done, total, name: bars.update(
                task, completed=done, total=total, description=escape(printable(f"{verb} {name}"))
            )
        return
    printed = time.monotonic()

    def report(done: int, total: int, name: str) -> None:
        nonlocal printed
        if time.monotonic() - printed >= QUIET or done == total:
            printed = time.monotonic()
            note(f"{verb}: {done} of {total}, {name}")

    yield report


SPLITS_HELP = "a split: a name (`coopseg info`), a JSON or YAML file, or a run folder (its training's split)"


def asked(name: str, *flags: str, **more: Any) -> Any:
    """Makes the option for an argument of a training; its help is what TrainingRequest says of it."""
    return typer.Option(*flags, help=TrainingRequest.model_fields[name].description, **more)


Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], asked("device")]
Precision = Annotated[Literal["32", "bf16"], asked("precision")]
Layout = Annotated[str, asked("layout")]
LabelNames = Annotated[str | None, asked("labels", "--labels", show_default=False)]
Adapt = Annotated[
    bool,
    typer.Option(
        "--adapt",
        help="choose spacing, crop and, for CT, an intensity window from the scans, but not what --set gives",
    ),
]
Set = Annotated[list[str] | None, asked("settings", "--set", metavar="SECTION.KEY=VALUE", show_default=False)]
Part = Annotated[Literal["train", "validate", "test"], typer.Option(help="part of --split to use")]
ModelPath = Annotated[Path, typer.Option(help="run folder or weight file", show_default=False)]
NewFolder = Annotated[Path, typer.Option(help="folder to make", show_default=False)]
ScanStatistics = Annotated[
    str | None,
    typer.Option(
        "--scan-statistics",
        metavar="K|off",
        help="take a share n / (n + K) of the first layers' statistics from the scan, which has n slices; "
        "off: none",
        show_default="the model's prediction.scan_statistics",
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE:CALLABLE",
        help="run the code that the model's network.kind names; may be repeated",
        show_default=False,
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="go on in an --out of the same model and settings; what is done is kept"),
]
Anatomy = Annotated[
    bool,
    typer.Option(
        "--anatomy",
        help="mend each label map: the largest piece of each structure alone, holes filled, the LV within "
        "myocardium",
    ),
]
Quality = Annotated[
    bool,
    typer.Option(
        "--quality/--no-quality",
        help="say what Dice is expected of each label map, and flag those to look at, if the model is "
        "calibrated (`coopseg calibrate`); up to twice the time",
    ),
]
Volumes = Annotated[
    Literal["true", "nominal"],
    typer.Option(
        "--spacing", help="whether headers hold the true voxel spacing; nominal leaves out what needs it"
    ),
]
Refine = Annotated[int, typer.Option("--refine", min=0, help="how often the STN is applied; 0: FTN alone")]
