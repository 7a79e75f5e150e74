"""The question of a report and its answer: one sentence for each baseline, and a line for each comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coopseg.config.methods import DEFAULT_METHOD
from coopseg.results.differences import Difference
from coopseg.results.patients import MEAN
from coopseg.results.shown import Heading, Line, Shown, Table, p_text, signed
from coopseg.results.study import STEPS, TIME
from coopseg.results.table import Results
from coopseg.results.tables import nothing_compared, show_difference

LISTED = 3  # methods that are named one by one
OURS = (DEFAULT_METHOD, "cooperative")  # named in any case
OUTCOMES = {"higher": "above", "lower": "below", "open": "open", "too few": "too few patients to tell"}
ONE_TRAINING = "With one training of a method, the chance between trainings is not in these figures."
NOTE = (
    "Foreground Dice by the last head that both have, paired by patient, training patients and seed. "
    "Interval: 95 %, bootstrap over patients, and over trainings where there are several. p: sign-flip "
    "test over patients, corrected by Holm over the methods of a data set. Clear, above or below: the "
    "interval leaves out zero and p is below 0.05."
)


@dataclass(frozen=True)
class Answer:
    """A verdict, what else is to be said, and the comparisons on which the verdict rests.

    comparisons: of the methods that the verdict names with the first baseline, one for each data set. Unlike
    things are never added up: the training domain has a line of its own like the others.
    """

    verdict: str
    notes: tuple[str, ...] = ()
    comparisons: tuple[Difference, ...] = ()


def ask(results: Results) -> str:
    """Returns the question, one sentence."""
    cost = ", and at what cost?" if results.cost else "?"
    rest = f"on scans unlike those it was trained on{cost}"
    known = [row.name for row in results.rows]
    baselines = [name for name in results.baselines if name in known] or list(results.baselines)
    others = [row.title for row in results.rows if row.name != baselines[0]]
    names = " or ".join(map(results.title, baselines))
    if not others:
        return f"How well does {names} hold {rest}"
    if len(others) == 1:
        return f"Does {others[0]} hold better than {names} {rest}"
    which = f"{len(others)} other methods" if len(others) > LISTED else ", ".join(others)
    return f"Which of {which} holds better than {names} {rest}"


def answer(results: Results) -> Answer:
    """Returns what the differences say, and no more than they bear."""
    progress = _progress(results)
    if not any(cell.has_value for cell in results.cells):
        return Answer("No job has finished yet." if results.jobs else "Nothing has been evaluated yet.")
    if [row.name for row in results.rows] == list(results.baselines):
        return Answer(
            "One method alone: the figures below say how much it loses, not whether another loses less.",
            progress,
        )
    if not results.compared:
        return Answer(nothing_compared(results), progress)
    found = {against: speaking(results, STEPS, against) for against in results.compared}
    first, *rest = found.values()
    others = [_verdict(results, own, short=True) for own in rest]
    timed = [
        f"At equal wall-clock time: {_verdict(results, own, short=True)}"
        for against in results.compared
        if (own := speaking(results, TIME, against))
    ]
    named = _named(first)
    once = any(entry.trainings == 1 for entry in first)
    notes = [*progress, *others, *timed, *_cost(results), *([ONE_TRAINING] if once else [])]
    verdict = _verdict(results, first)
    return Answer(verdict, tuple(notes), tuple(entry for name in named for entry in _of(first, name)))


def speaking(results: Results, budget: str, against: str) -> list[Difference]:
    """Returns the differences to a baseline on each data set, by the last head that both have."""
    single = [column.name for column in results.columns if not column.average]
    found = [
        entry
        for entry in results.differences
        if (entry.budget, entry.against, entry.class_) == (budget, against, MEAN) and entry.column in single
    ]
    last = {entry.row: entry.head for head in results.heads for entry in found if entry.head == head}
    return [entry for entry in found if entry.head == last[entry.row]]


def comparison_table(results: Results, found: Sequence[Difference]) -> Table:
    """Returns a line a comparison: size, interval, p, numbers of patients and trainings, outcome."""
    lines = []
    for entry in found:
        low, high = map(signed, entry.interval) if entry.interval else ("–", "–")
        cells = (
            Shown(signed(entry.mean), mark=show_difference(entry).mark),
            Shown(f"{low} to {high}" if entry.interval else "–"),
            Shown("–" if entry.p_holm is None or entry.outcome == "too few" else p_text(entry.p_holm)),
            *(Shown(str(count)) for count in (entry.n, entry.trainings)),
            Shown(OUTCOMES[entry.outcome]),
        )
        lines.append(Line((results.title(entry.row), entry.head, entry.column), cells))
    titles = ("Dice", "95 % interval", "p", "patients", "trainings", "clear?")
    names = ("method", "head", "data set")
    title = f"Method minus {results.title(found[0].against)}" if found else ""
    return Table(names, tuple(map(Heading, titles)), tuple(lines), title, NOTE)


def _of(found: Sequence[Difference], row: str) -> list[Difference]:
    return [entry for entry in found if entry.row == row]


def _named(found: Sequence[Difference]) -> list[str]:
    """The methods with most data sets won over lost, then ours where they are not among these."""
    names = list(dict.fromkeys(entry.row for entry in found))
    score = {"higher": 1, "lower": -1}
    names.sort(key=lambda name: -sum(score.get(entry.outcome, 0) for entry in _of(found, name)))
    return [*names[:LISTED], *(name for name in names[LISTED:] if name in OURS)]


def _verdict(results: Results, found: Sequence[Difference], *, short: bool = False) -> str:
    named = _named(found)
    more = len({entry.row for entry in found}) - len(named)
    said = "; ".join(_counts(results, _of(found, name), short=short) for name in named)
    rest = f"; {more} more in the table of differences" if more else ""
    return f"Against {results.title(found[0].against)}, {said}{rest}."


def _counts(results: Results, own: Sequence[Difference], *, short: bool) -> str:
    """Says "coopseg (FTN): above on 2 of 4 data sets (RandBias, RandSpike), below on 1 (ACDC)" and so on.

    short: without the names of the data sets.
    """
    parts: list[str] = []
    for outcome, word in OUTCOMES.items():
        if listed := [entry for entry in own if entry.outcome == outcome]:
            of = f" of {len(own)} data sets" if not parts else ""
            fewest = f"; n = {min(entry.n for entry in listed)}" if outcome == "too few" else ""
            where = "" if short else f" ({', '.join(entry.column for entry in listed)}{fewest})"
            parts.append(f"{word} on {len(listed)}{of}{where}")
    return f"{results.title(own[0].row)} ({own[0].head}): {', '.join(parts)}"


def _progress(results: Results) -> tuple[str, ...]:
    jobs = results.jobs
    if jobs is None or jobs.finished == jobs.all:
        return ()
    failed = len(jobs.failed)
    return (f"{jobs.finished} of {jobs.all} jobs have finished ({failed} failed): this rests on them.",)


def _cost(results: Results) -> list[str]:
    known = [(line.times_baseline, line) for line in results.cost if line.times_baseline]
    ordered = sorted(
        (times, line.row, line.against or "") for times, line in known if line.row != line.against
    )
    if not ordered:
        return []
    (least, first, against), (most, last, _) = ordered[0], ordered[-1]
    of = f"as long as one of {results.title(against)}"
    shortest = f"A training step of {results.title(first)} takes {least:.1f} times"
    if first == last:
        return [f"{shortest} {of}."]
    return [f"{shortest}, one of {results.title(last)} {most:.1f} times {of}."]
