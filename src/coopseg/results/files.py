"""Tables as text, Markdown and LaTeX; and a folder of all that a study found, for programs and for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coopseg.results.figures import FORMATS, draw_figures, save
from coopseg.results.patients import FAILURES, MEAN
from coopseg.results.scores import Cell
from coopseg.results.shown import Table, as_csv, as_latex, as_markdown, escape, harmless, one_line
from coopseg.results.statistics import FEWEST, as_json
from coopseg.results.study import STEPS, TIME
from coopseg.results.table import Ended, Results
from coopseg.results.tables import (
    change_table,
    copies_note,
    cost_table,
    difference_table,
    group_places,
    nothing_compared,
    nought_text,
    places,
    score_table,
    severity_table,
    spikes_note,
)
from coopseg.scans.files import write_atomically
from coopseg.text import Json

FIGURES = "figures"
GROUPS = {"phase": "phase", "vendor": "vendor", "site": "vendor/centre"}
NAMES = ["budget", "row", "head", "column", "class", "group", "value"]
NUMBERS = [
    "state", "mean", "interval_low", "interval_high", "sd_draws", "sd_seeds", "sd_patients", "n", "draws",
    "jobs_finished", "jobs_failed", "jobs", "dice_below_0.5", "dice_below_0.1", "nsd", "hd95", "assd",
    "distance_missing",
]  # fmt: skip
COMPARED = [
    "budget", "against", "row", "head", "column", "class", "mean", "interval_low", "interval_high", "n",
    "trainings", "draws", "p", "p_holm", "family", "clear",
]  # fmt: skip
MAIN_NOTE = (
    "Dice, mean over patients (copies, phases, seeds and draws of a patient averaged first), ± standard "
    "deviation over draws, or over seeds of one draw, where a method has several. **Bold**: best of a column "
    f"among methods with the same draws, of {FEWEST} patients or more. n/a: a head that the method does not "
    "have."
)
DIFFERENCE_NOTE = (
    "on the same patients, draws and seeds, [95 % bootstrap interval over patients, and over trainings where "
    "there are several], p of the sign-flip test over patients corrected by Holm over the methods of this "
    "table within a column and head; too few: so few patients cannot show any difference. With one training "
    "neither says anything of chance between trainings."
)
CHANGE_NOTE = "What robustness costs on clean scans of the own site, beside what it brings elsewhere."
COST_NOTE = (
    "A step and its memory are timed alone (median of the steps); the rest are means over finished jobs, in "
    "h:min:s."
)
FAILURE_NOTE = (
    f"Share of a patient's volumes with {' / '.join(f'Dice < {limit}' for limit in FAILURES)}, averaged over "
    "patients."
)
NSD_NOTE = (
    "Normalised surface Dice: the share of both surfaces that lies within a tolerance of the other, 2 mm "
    "unless `--tolerance` said otherwise. A structure that only truth or only the prediction holds counts 0."
)


def write_results(results: Results, out: Path, *, content: Mapping[str, Any]) -> Path:
    """Write all of it into a folder, each file whole.

    results.json (`content`, see `to_json`), results.csv (a line a cell), differences.csv (a line a difference
    to a baseline), results.md, results.tex, and figures/ as SVG and PDF. Returns the folder.
    """
    texts = {
        "results.json": json.dumps(content, indent=1, allow_nan=False) + "\n",
        "results.csv": as_csv([_flat(cell) for cell in results.cells], [*NAMES, *NUMBERS]),
        "differences.csv": as_csv([_flat(entry) for entry in results.differences], COMPARED),
        "results.md": markdown(results),
        "results.tex": latex(results),
    }
    for name, text in texts.items():
        write_atomically(out / name, text.encode())
    for name, figure in draw_figures(results).items():
        for kind in FORMATS:
            write_atomically(out / FIGURES / f"{name}.{kind}", save(figure, kind))
    return out


def _flat(entry: object) -> Json:
    """A cell or a difference in plain columns."""
    flat: Json = as_json(entry)
    flat["interval_low"], flat["interval_high"] = flat["interval"] or (None, None)
    flat["draws"] = " ".join(flat["draws"])
    if isinstance(entry, Cell):
        flat |= {f"dice_below_{limit}": share for limit, share in entry.failures.items()}
        jobs = flat["jobs"] or {}
        flat |= {"jobs_finished": jobs.get("finished"), "jobs_failed": jobs.get("failed")}
        flat["jobs"] = jobs.get("all")
    return flat


def latex(results: Results) -> str:
    r"""Returns the scores, then the differences to each baseline, for \input; "" without any column."""
    if not results.columns:
        return ""
    caption = (
        "Dice, mean over patients, $\\pm$ standard deviation over draws, or over seeds of one draw. Bold: "
        f"best of a column among methods with the same draws, of {FEWEST} patients or more."
    )
    notes = filter(None, (copies_note(results), spikes_note(results)))
    main = score_table(results).called("Dice", " ".join([caption, *map(escape, notes)]))
    parts = ["% \\usepackage{booktabs,graphicx}", as_latex(main, "dice")]
    for against in results.compared:
        caption = (
            f"Dice minus that of {escape(results.title(against))}: {{[}}95\\,\\% bootstrap interval over "
            "patients, and over trainings where there are several{]}, Holm-corrected $p$ of the sign-flip "
            "test over patients."
        )
        table = difference_table(results, against).called("", caption)
        parts.append(as_latex(table, f"differences-{against}", bold=False))
    return "\n\n".join(parts) + "\n"


def markdown(results: Results) -> str:
    """Returns every table as one document, and what has failed or waits."""
    parts = ["# Benchmark"]
    if results.jobs:
        jobs = results.jobs
        parts += [f"{jobs.finished} of {jobs.all} jobs have finished, {len(jobs.failed)} have failed."]
    for table in all_tables(results):
        bold = table.names != ("method", "head") and not table.title.startswith("Difference")
        parts.append(f"## {table.title}")
        parts += [table.caption] * bool(table.caption) + [as_markdown(table, bold=bold)] * bool(table.names)
    if results.jobs:
        parts += ["## Failed and waiting jobs", _errors(results.jobs)]
    return harmless("\n\n".join(parts)) + "\n"


def _errors(jobs: Ended) -> str:
    listed = [f"- {job.id}: {job.kind}: {one_line(job.error)}" for job in jobs.failed]
    return "\n".join([*listed, *(f"- {job.id}: waiting" for job in jobs.waiting)]) or "None."


def all_tables(results: Results) -> Iterator[Table]:
    """Yields every table of a study in the order of the document, each with title and caption."""
    if results.columns:
        notes = [f"{row.title}: {row.note}." for row in results.rows if row.note]
        caption = " ".join(filter(None, [MAIN_NOTE, *notes, copies_note(results), spikes_note(results)]))
        yield score_table(results).called("Dice", caption)
        yield from _compared(results, STEPS, "")
        for against in results.compared:
            note = f"{CHANGE_NOTE} {spikes_note(results)}".strip()
            yield change_table(results, against).called(f"Change against {results.title(against)}", note)
        yield from more_tables(results)
        yield score_table(results, measure="failures", filled=True).called("Failures", FAILURE_NOTE)
        yield from distance_tables(results)
        if TIME in results.budgets:
            yield score_table(results, budget=TIME).called("Dice at equal wall-clock time")
            yield from _compared(results, TIME, " at equal wall-clock time")
    if results.cost:
        yield cost_table(results).called("Cost", COST_NOTE)
    if results.severity:
        note = f"Dice by severity, a factor on the published one; {nought_text(results)}."
        yield severity_table(results).called("Severity", note)


def _compared(results: Results, budget: str, when: str) -> Iterator[Table]:
    if not results.compared and not when:
        yield Table((), (), (), "Differences", nothing_compared(results))
    for against in results.compared:
        title, table = results.title(against), difference_table(results, against, budget=budget)
        if table.lines:
            yield table.called(f"Difference to {title}{when}", f"Method minus {title}, {DIFFERENCE_NOTE}")


def more_tables(results: Results) -> Iterator[Table]:
    """Yields the Dice of each class, and by phase, vendor and site."""
    for name in results.classes:
        if name != MEAN:
            yield score_table(results, places(results, of=name), filled=True).called(f"Dice of {name}")
    for group, title in GROUPS.items():
        if at := group_places(results, group):
            yield score_table(results, at, filled=True).called(f"By {title}")


def distance_tables(results: Results) -> Iterator[Table]:
    """Yields NSD, HD95 and ASSD where any was measured."""
    note = (
        "Over the volumes in which truth and prediction both hold the class. A method that misses a "
        "structure is not punished here, so it is never the best if another misses less; see the failures."
    )
    titles = {"nsd": ("NSD", NSD_NOTE), "hd95": ("HD95, mm", note), "assd": ("ASSD, mm", note)}
    for measure, (title, caption) in titles.items():
        whole = [cell for cell in results.cells if (cell.class_, cell.budget) == (MEAN, STEPS)]
        if any(cell.measure(measure) is not None for cell in whole):
            yield score_table(results, measure=measure, filled=True).called(title, caption)
