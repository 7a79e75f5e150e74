"""The results as a Markdown document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from coopseg.benchmark.captions import cost_unit, nothing_compared, nought_text, spikes_note
from coopseg.benchmark.collected import STEPS, TIME
from coopseg.benchmark.view import (
    Grid,
    cell_text,
    change_of,
    compared_with,
    difference_text,
    differences_of,
    grid,
    group_places,
    number_text,
    percent,
    places,
    with_values,
)
from coopseg.config.methods import title_of
from coopseg.results.patients import FAILURES, MEAN

MAIN_NOTE = (
    "Dice, mean over patients (copies, phases, seeds and draws of a patient averaged first), ± standard "
    "deviation over draws where a row has several. **Bold**: best of a column among rows with the same "
    "draws. n/a: a head that the row does not have."
)
DIFFERENCE_NOTE = (
    "on the same patients, draws and seeds, [95 % bootstrap interval over patients, and over draws where a "
    "row has several], p of the sign-flip test over patients corrected by Holm over the rows of this table "
    "within a column and head. With one draw neither says anything of chance between trainings."
)
CHANGE_NOTE = "What robustness costs on clean scans of the own site, beside what it brings elsewhere."
GROUPS = {"phase": "By phase", "vendor": "By vendor", "site": "By vendor/centre"}


def markdown(results: dict[str, Any]) -> str:
    """Main table, differences, change, classes, phases, vendors, centres, failures, cost, equal time, errors.

    results: see `coopseg.benchmark.table.tabulate`.
    """
    return "\n\n".join(["# Benchmark", *_sections(results)]) + "\n"


def _sections(results: dict[str, Any]) -> Iterator[str]:
    jobs = results["jobs"]
    yield f"{jobs['finished']} of {jobs['all']} jobs have finished, {len(jobs['failed'])} have failed."
    if results["columns"]:
        yield from _scores(results)
    yield "## Cost\n\n" + _cost(results)
    if results["severity"]:
        yield "## Severity\n\n" + _severity(results)
    yield "## Failed and waiting jobs\n\n" + _errors(jobs)


def _scores(results: dict[str, Any]) -> Iterator[str]:
    yield f"## Dice\n\n{MAIN_NOTE}{_notes(results)}\n\n{_grid(grid(results, places(results)))}"
    yield from _comparisons(results)
    for name in results["classes"]:
        if name != MEAN:
            yield f"## Dice of {name}\n\n" + _grid(with_values(grid(results, places(results, of=name))))
    for group, title in GROUPS.items():
        if at := group_places(results, group):
            yield f"## {title}\n\n" + _grid(with_values(grid(results, at)))
    yield "## Failures\n\n" + _failures(results)
    for measure in ("hd95", "assd"):
        table = grid(results, places(results), measure=measure)
        if any(cell.get(measure) is not None for line in table["rows"] for cell in line["cells"]):
            yield f"## {measure.upper()}, mm\n\n" + _grid(with_values(table), measure)
    if TIME in results["budgets"]:
        yield "## Dice at equal wall-clock time\n\n" + _grid(grid(results, places(results), budget=TIME))
        for against in compared_with(results, budget=TIME):
            equal = _differences(differences_of(results, against, budget=TIME))
            yield f"## Difference to {title_of(against)} at equal wall-clock time\n\n{equal}"


def _comparisons(results: dict[str, Any]) -> Iterator[str]:
    baselines = compared_with(results)
    if not baselines:
        yield f"## Differences\n\n{nothing_compared(results)}"
    for against in baselines:
        title, compared = title_of(against), differences_of(results, against)
        yield f"## Difference to {title}\n\nRow minus {title}, {DIFFERENCE_NOTE}\n\n{_differences(compared)}"
    for against in baselines:
        yield f"## Change against {title_of(against)}\n\n{_change(results, against)}"


def _notes(results: dict[str, Any]) -> str:
    notes = [f"{title_of(row['name'])}: {row['note']}." for row in results["rows"] if row["note"]]
    return "".join(f" {note}" for note in [*notes, spikes_note(results)] if note)


def _grid(table: Grid, measure: str = "mean") -> str:
    lines = [["row", "head", "draws", *map(_title, table["places"])]]
    for line in table["rows"]:
        texts = [cell_text(cell, measure) for cell in line["cells"]]
        marked = [f"**{t}**" if cell["best"] else t for t, cell in zip(texts, line["cells"], strict=True)]
        lines.append([*_names(line), *marked])
    return _table(lines)


def _names(line: dict[str, Any]) -> list[str]:
    return [title_of(line["row"]), line["head"], line["draws"]]


def _title(place: dict[str, str]) -> str:
    return f"{place['column']} {place['value']}".strip()


def _differences(table: Grid) -> str:
    lines = [["row", "head", "draws", *map(_title, table["places"])]]
    for line in table["rows"]:
        lines.append([*_names(line), *map(difference_text, line["cells"])])
    return _table(lines)


def _change(results: dict[str, Any], against: str) -> str:
    change = change_of(results, against)
    lines = [["row", "head", *change["titles"].values()]]
    for entry in change["rows"]:
        texts = [difference_text(entry[key]) for key in change["titles"]]
        lines.append([title_of(entry["row"]), entry["head"], *texts])
    note = f"{CHANGE_NOTE} {spikes_note(results)}".strip()
    return f"{note}\n\n{_table(lines)}"


def _failures(results: dict[str, Any]) -> str:
    table = with_values(grid(results, places(results)))
    limits = " / ".join(f"Dice < {limit}" for limit in FAILURES)
    lines = [["row", "head", "draws", *map(_title, table["places"])]]
    for line in table["rows"]:
        texts = [failure_text(cell) for cell in line["cells"]]
        lines.append([*_names(line), *texts])
    return f"Share of a patient's volumes with {limits}, averaged over patients.\n\n" + _table(lines)


def failure_text(cell: dict[str, Any]) -> str:
    """Returns "12 % / 1 %", by the limits in order; else the cell's state."""
    if cell["state"] != "value":
        return cell_text(cell)
    return " / ".join(percent(cell["failures"][str(limit)]) for limit in FAILURES)


def _cost(results: dict[str, Any]) -> str:
    unit = cost_unit(results)
    title = ["row", "seconds a step", "IQR", unit, "peak memory, GB", "steps", "training, s", "job, s"]
    lines = [title]
    for entry in results["cost"]:
        trained = entry["trainings"].get(STEPS, {})
        probe = [number_text(entry[key]) for key in ("seconds_per_step", "spread")]
        more = [number_text(entry["times_baseline"], 2), number_text(entry["peak_memory_gb"], 2)]
        whole = [number_text(trained.get(key), 0) for key in ("steps", "training_seconds", "seconds")]
        failed = [f"failed: {entry['error']}", ""] if entry["error"] else probe
        lines.append([title_of(entry["row"]), *failed, *more, *whole])
    note = (
        "A step and its memory are probed alone (median of its steps); the rest are means over finished jobs."
    )
    return f"{note}\n\n{_table(lines)}"


def _severity(results: dict[str, Any]) -> str:
    levels = sorted({point["severity"] for curve in results["severity"] for point in curve["points"]})
    lines = [["corruption", "row", "head", *(f"{level:g}" for level in levels)]]
    for curve in sorted(results["severity"], key=lambda curve: curve["kind"]):
        at = {point["severity"]: point["mean"] for point in curve["points"]}
        names = [curve["kind"], title_of(curve["row"]), curve["head"]]
        lines.append([*names, *(number_text(at.get(level)) for level in levels)])
    return f"Dice by severity, a factor on the published one; {nought_text(results)}.\n\n{_table(lines)}"


def _errors(jobs: dict[str, Any]) -> str:
    listed = [f"- {job['id']}: {job['kind']}: {_one_line(job['error'])}" for job in jobs["failed"]]
    listed += [f"- {job['id']}: waiting" for job in jobs["waiting"]]
    return "\n".join(listed) or "None."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = [_line(cells) for cells in lines]
    return "\n".join([head, _line(["---"] * len(lines[0])), *rest])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"
