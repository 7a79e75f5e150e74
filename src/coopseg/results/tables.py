"""Lays cells out in lines and columns, their numbers as text, the best and the clear ones marked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from coopseg.results.columns import IN_SCAN_GRID, SPIKES, WITHOUT_SPIKES
from coopseg.results.differences import Difference
from coopseg.results.patients import ALL, FAILURES, MEAN
from coopseg.results.scores import Cell
from coopseg.results.shown import NOTHING, Heading, Line, Shown, Table, number_text, p_text, percent, signed
from coopseg.results.statistics import FEWEST
from coopseg.results.study import STEPS, WHOLE
from coopseg.results.table import Cost, Results
from coopseg.text import clock

DIGITS = {"dice": 3, "nsd": 3, "hd95": 1, "assd": 2}
OVERLAPS = ("dice", "nsd")  # the more the better, and a missed structure counts 0
CHANGE_TITLES = {
    "own": "clean, own site", "corrupted": "corrupted", "other": "other sites", "out": "out of domain",
    "without_spikes": "all without spikes",
}  # fmt: skip
DOMAIN_TITLES = {
    "intra": "own site, clean", "corrupted": "corrupted", "other": "other sites",
    "no artefact": "scan's grid", "scan grid": "scan's grid", "average": "averages",
}  # fmt: skip
SPIKES_NOTE = (
    f"{SPIKES} adds a spike of one to three times the maximum of k-space, stripes far stronger than those of "
    "any scanner; the average without spikes is over all data sets but that one."
)


@dataclass(frozen=True)
class Place:
    """A place in a line of scores: a column, a class, and a group of volumes."""

    column: str
    class_: str = MEAN
    group: str = ALL
    value: str = ""


def places(results: Results, *, of: str = MEAN) -> list[Place]:
    """Returns a place a column: all its volumes, one class."""
    return [Place(column.name, of) for column in results.columns]


def group_places(results: Results, group: str) -> list[Place]:
    """Returns a place for each phase, vendor or site of each data set that names one."""
    single = [column.name for column in results.columns if not column.average]
    found = {
        (cell.column, cell.value)
        for cell in results.cells
        if cell.group == group and cell.class_ == MEAN and cell.column in single
    }
    ordered = sorted(found, key=lambda key: (single.index(key[0]), key[1]))
    return [Place(name, MEAN, group, value) for name, value in ordered]


@dataclass(frozen=True)
class Scores:
    """The cells of a row and head at several places; None where there is none."""

    row: str
    head: str
    first: Cell
    cells: tuple[Cell | None, ...]


def find_scores(results: Results, at: Sequence[Place], *, budget: str = STEPS) -> list[Scores]:
    """Returns a line a row and head that takes part under a budget, in the order of the table."""
    found = {
        (cell.row, cell.head, Place(cell.column, cell.class_, cell.group, cell.value)): cell
        for cell in results.cells
        if cell.budget == budget
    }
    first = {(cell.row, cell.head): cell for cell in reversed(list(found.values()))}
    return [
        Scores(row.name, head, first[row.name, head],
               tuple(found.get((row.name, head, place)) for place in at))
        for row in results.rows
        for head in results.heads
        if (row.name, head) in first
    ]  # fmt: skip


def best_of(cells: Sequence[Cell | None], measure: str) -> set[int]:
    """Returns the places of the best cells of a column, among rows with the same draws, two or more of them.

    Scores of fewer than FEWEST patients are never the best: no test could tell them from the others.
    Numbers are compared as they are shown. A row that misses more structures than another is never the best
    by a distance: what it missed has no distance.
    """
    same: dict[tuple[str, ...], list[tuple[int, Cell, float]]] = defaultdict(list)
    for place, cell in enumerate(cells):
        if cell and (cell.n or 0) >= FEWEST and (value := cell.measure(measure)) is not None:
            same[tuple(cell.draws)].append((place, cell, round(value, DIGITS[measure])))
    best: set[int] = set()
    for known in same.values():
        if len({cell.row for _, cell, _ in known}) > 1:
            pick = max if measure in OVERLAPS else min
            value = pick(shown for *_, shown in known)
            fewest = min(cell.distance_missing or 0 for _, cell, _ in known)
            best |= {
                place
                for place, cell, shown in known
                if shown == value and (measure in OVERLAPS or (cell.distance_missing or 0) <= fewest + 1e-9)
            }
    return best


def score_table(
    results: Results,
    at: Sequence[Place] | None = None,
    *,
    budget: str = STEPS,
    measure: str = "dice",
    filled: bool = False,
) -> Table:
    """Returns the scores at these places, by default a place a column.

    measure: "dice", "nsd", "hd95", "assd", or "failures" for the shares of volumes below each limit.
    filled: without the lines that hold no number.
    """
    at = places(results) if at is None else at
    lines = find_scores(results, at, budget=budget)
    if filled:
        lines = [line for line in lines if any(cell and cell.has_value for cell in line.cells)]
    columns = list(zip(*(line.cells for line in lines), strict=True))
    best = [set() if measure == "failures" else best_of(column, measure) for column in columns]
    patients = over_patients(results)
    shown = [
        Line(
            (results.title(line.row), line.head, draws_text(line.first)),
            tuple(
                _shown(cell, line.first, measure, best=number in marked, patients=patients)
                for cell, marked in zip(line.cells, best, strict=True)
            ),
        )
        for number, line in enumerate(lines)
    ]
    return Table(("method", "head", "draws"), headings(results, at), tuple(shown))


def over_patients(results: Results) -> bool:
    """Tells whether ± is over patients: where no benchmark was run, and every row has one training."""
    return results.jobs is None and all(cell.spread is None for cell in results.cells)


def headings(results: Results, at: Sequence[Place]) -> tuple[Heading, ...]:
    """Returns the titles of places, grouped by domain."""
    domains = {column.name: DOMAIN_TITLES[column.domain] for column in results.columns}
    return tuple(Heading(f"{place.column} {place.value}".strip(), domains[place.column]) for place in at)


def _shown(cell: Cell | None, first: Cell, measure: str, *, best: bool, patients: bool) -> Shown:
    if cell is None:
        return NOTHING if first.has_value else Shown(first.state, mark="empty")
    if not cell.has_value:
        return Shown(cell.state, mark="empty")
    if measure == "failures":
        first_share, *others = (percent(cell.failures[str(limit)]) for limit in FAILURES)
        return Shown(first_share, "".join(f"/ {share}" for share in others))
    sd = cell.sd_patients if patients else cell.spread
    more = "" if measure != "dice" or sd is None else f"± {number_text(sd)}"
    return Shown(number_text(cell.measure(measure), DIGITS[measure]), more, "best" if best else "")


def draw_names(draws: Iterable[str]) -> str:
    """Lists draws: "A B C"; "–" where the split itself is the only one."""
    return " ".join(draw for draw in draws if draw != WHOLE) or "–"


def draws_text(cell: Cell) -> str:
    """Says what a line rests on: "A B C"; "3 seeds" of one unnamed draw; "A B (2 of 3)" of its jobs."""
    if not cell.has_value or cell.jobs is None:
        return "–"
    names = draw_names(cell.draws)
    if names == "–" and len(cell.seeds) > 1:
        names = f"{len(cell.seeds)} seeds"
    jobs = cell.jobs
    return names if jobs.finished == jobs.all else f"{names} ({jobs.finished} of {jobs.all})"


def difference_table(
    results: Results, against: str, *, budget: str = STEPS, head: str | None = None
) -> Table:
    """Returns the differences to one baseline, a line a row and head that has one. head: only this one."""
    found = {
        (entry.row, entry.head, entry.column): entry
        for entry in results.differences
        if (entry.budget, entry.against, entry.class_) == (budget, against, MEAN)
    }
    lines = []
    for row in results.rows:
        for name in results.heads if head is None else (head,):
            own = [found.get((row.name, name, column.name)) for column in results.columns]
            if known := [entry for entry in own if entry]:
                names = (row.title, name, draw_names(known[0].draws))
                lines.append(Line(names, tuple(map(show_difference, own))))
    return Table(("method", "head", "draws"), headings(results, places(results)), tuple(lines))


def show_difference(entry: Difference | None) -> Shown:
    """Shows "+0.021 [+0.004, +0.039], p 0.012", marked if it is clear; "–" where there is none.

    Where patients are too few for any clear difference, "too few" stands for p.
    """
    if entry is None:
        return NOTHING
    more = [f"[{', '.join(signed(value) for value in entry.interval)}]"] if entry.interval else []
    if entry.p_holm is not None:
        more.append("too few" if entry.outcome == "too few" else f"p {p_text(entry.p_holm)}")
    mark = ("best" if entry.mean > 0 else "worse") if entry.clear else ""
    return Shown(signed(entry.mean), ", ".join(more), mark)


def change_table(results: Results, against: str) -> Table:
    """Returns what rows bring on clean own-site scans, beside what they bring elsewhere."""
    own = [line for line in results.change if line.against == against]
    keys = [key for key in CHANGE_TITLES if any(getattr(line, key) for line in own)]
    lines = tuple(
        Line((results.title(line.row), line.head), tuple(show_difference(getattr(line, key)) for key in keys))
        for line in own
    )
    return Table(("method", "head"), tuple(Heading(CHANGE_TITLES[key]) for key in keys), lines)


def cost_table(results: Results) -> Table:
    """Returns what a step of each row costs, and what its trainings took."""
    against = next((entry.against for entry in results.cost if entry.against), "")
    unit = f"× {results.title(against)}" if against else "× baseline"
    titles = ("seconds a step", "IQR", unit, "peak memory, GB", "steps", "training", "whole job")
    lines = (Line((results.title(entry.row),), tuple(_costs(entry))) for entry in results.cost)
    return Table(("method",), tuple(map(Heading, titles)), tuple(lines))


def _costs(entry: Cost) -> Iterator[Shown]:
    if entry.error:
        yield from (Shown(f"failed: {entry.error}", mark="empty"), NOTHING)
    else:
        yield from (Shown(number_text(value)) for value in (entry.seconds_per_step, entry.spread))
    yield from (Shown(number_text(value, 2)) for value in (entry.times_baseline, entry.peak_memory_gb))
    spent = entry.trainings.get(STEPS)
    yield Shown(number_text(spent.steps if spent else None, 0))
    for seconds in (spent.training_seconds, spent.seconds) if spent else (None, None):
        yield NOTHING if seconds is None else Shown(clock(seconds))


def severity_table(results: Results) -> Table:
    """Returns Dice by corruption, row, head and severity."""
    levels = sorted({point.x for curve in results.severity for point in curve.points})
    lines = []
    for curve in sorted(results.severity, key=lambda curve: curve.kind):
        at = {point.x: point.mean for point in curve.points}
        cells = tuple(Shown(number_text(at.get(level))) for level in levels)
        lines.append(Line((curve.kind, results.title(curve.row), curve.head), cells))
    names = ("corruption", "method", "head")
    return Table(names, tuple(Heading(f"{level:g}") for level in levels), tuple(lines))


def nought_text(results: Results) -> str:
    """Says what severity 0 is, for a caption."""
    asked = [curve.measured_nought for curve in results.severity]
    copies = "0 is the copies without artefact, in the grid of the others"
    clean = "0 is the clean set, neither cropped nor rescaled"
    if any(asked) and not all(asked):
        rows = dict.fromkeys(results.title(c.row) for c in results.severity if not c.measured_nought)
        return f"{copies}; for {', '.join(rows)} {clean}"
    return copies if all(asked) else clean


def few_note(results: Results) -> str:
    """Says where no score is marked as the best, for a caption; "" if patients are enough everywhere."""
    few = [column.name for column in results.columns if column.patients and column.patients < FEWEST]
    if not few or len(results.rows) == 1:
        return ""
    return f"Too few patients to mark a best (fewer than {FEWEST}): {', '.join(few)}."


def spikes_note(results: Results) -> str:
    """Says why there is an average without spikes, for a caption; "" where there is none."""
    return SPIKES_NOTE if any(column.name == WITHOUT_SPIKES for column in results.columns) else ""


def copies_note(results: Results) -> str:
    """Says which columns are on which copies, for a caption; "" where there is one sort only."""
    if not any(column.domain == "scan grid" for column in results.columns):
        return ""
    return (
        f"Columns with “{IN_SCAN_GRID.strip()}” are of copies in each scan's own grid and intensities, which "
        "any model can take, the first of them without an artefact. The other corrupted columns are of "
        "copies that are resampled, cropped and scaled to [0, 1]; predictors are not tested on these. Copies "
        "of the two sorts do not compare."
    )


def nothing_compared(results: Results) -> str:
    """Says why there are no differences."""
    names = " or ".join(map(results.title, results.baselines))
    return f"Nothing to compare: no other method was tested beside {names} on the same patients and draws."
