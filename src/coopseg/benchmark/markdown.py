"""The results as a Markdown document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from coopseg.benchmark.collected import STEPS, TIME
from coopseg.benchmark.view import (
    Grid,
    cell_text,
    difference_text,
    differences_of,
    grid,
    group_places,
    number_text,
    percent,
    places,
    with_values,
)
from coopseg.evaluation.tables import FAILURES, MEAN

MAIN_NOTE = (
    "Dice, mean over patients (copies, phases, seeds and draws of a patient averaged first), ± standard "
    "deviation over draws where a row has several. **Bold**: best of a column among rows with the same "
    "draws. n/a: a head that the row does not have."
)
DIFFERENCE_NOTE = (
    "Row minus standard on the same patients, draws and seeds, [95 % bootstrap interval over patients], p of "
    "the Wilcoxon signed-rank test corrected by Holm over the rows compared with standard within a column "
    "and head. Averages have no test. The interval says nothing of chance between trainings."
)
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
    yield f"## Difference to standard\n\n{DIFFERENCE_NOTE}\n\n{_differences(differences_of(results))}"
    yield "## Change on own-site scans beside change out of domain\n\n" + _change(results, STEPS)
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
        equal = _differences(differences_of(results, budget=TIME))
        yield f"## Difference to standard at equal wall-clock time\n\n{equal}"


def _notes(results: dict[str, Any]) -> str:
    return "".join(f" {row['name']}: {row['note']}." for row in results["rows"] if row["note"])


def _grid(table: Grid, measure: str = "mean") -> str:
    lines = [["row", "head", "draws", *map(_title, table["places"])]]
    for line in table["rows"]:
        texts = [cell_text(cell, measure) for cell in line["cells"]]
        marked = [f"**{t}**" if cell["best"] else t for t, cell in zip(texts, line["cells"], strict=True)]
        lines.append([line["row"], line["head"], line["draws"], *marked])
    return _table(lines)


def _title(place: dict[str, str]) -> str:
    return f"{place['column']} {place['value']}".strip()


def _differences(table: Grid) -> str:
    lines = [["row", "head", "draws", *map(_title, table["places"])]]
    for line in table["rows"]:
        lines.append([line["row"], line["head"], line["draws"], *map(difference_text, line["cells"])])
    return _table(lines)


def _change(results: dict[str, Any], budget: str) -> str:
    lines = [["row", "head", "clean, own site", "corrupted", "other sites", "out of domain"]]
    for entry in results["change"][budget]:
        texts = [difference_text(entry[key]) for key in ("own", "corrupted", "other", "out")]
        lines.append([entry["row"], entry["head"], *texts])
    return _table(lines)


def _failures(results: dict[str, Any]) -> str:
    table = with_values(grid(results, places(results)))
    limits = " / ".join(f"Dice < {limit}" for limit in FAILURES)
    lines = [["row", "head", "draws", *map(_title, table["places"])]]
    for line in table["rows"]:
        texts = [failure_text(cell) for cell in line["cells"]]
        lines.append([line["row"], line["head"], line["draws"], *texts])
    return f"Share of a patient's volumes with {limits}, averaged over patients.\n\n" + _table(lines)


def failure_text(cell: dict[str, Any]) -> str:
    """ "12 % / 1 %", by the limits in order; else the cell's state."""
    if cell["state"] != "value":
        return cell_text(cell)
    return " / ".join(percent(cell["failures"][str(limit)]) for limit in FAILURES)


def _cost(results: dict[str, Any]) -> str:
    title = [
        "row",
        "seconds a step",
        "IQR",
        "× standard",
        "peak memory, GB",
        "steps",
        "training, s",
        "job, s",
    ]
    lines = [title]
    for entry in results["cost"]:
        trained = entry["trainings"].get(STEPS, {})
        probe = [number_text(entry[key]) for key in ("seconds_per_step", "spread")]
        more = [number_text(entry["times_standard"], 2), number_text(entry["peak_memory_gb"], 2)]
        whole = [number_text(trained.get(key), 0) for key in ("steps", "training_seconds", "seconds")]
        failed = [f"failed: {entry['error']}", ""] if entry["error"] else probe
        lines.append([entry["row"], *failed, *more, *whole])
    note = (
        "A step and its memory are probed alone (median of its steps); the rest are means over finished jobs."
    )
    return f"{note}\n\n{_table(lines)}"


def _severity(results: dict[str, Any]) -> str:
    levels = sorted({point["severity"] for curve in results["severity"] for point in curve["points"]})
    lines = [["corruption", "row", "head", *(f"{level:g}" for level in levels)]]
    for curve in sorted(results["severity"], key=lambda curve: curve["kind"]):
        at = {point["severity"]: point["mean"] for point in curve["points"]}
        lines.append([curve["kind"], curve["row"], curve["head"], *(number_text(at.get(x)) for x in levels)])
    return "Dice by severity; 0 is the clean set.\n\n" + _table(lines)


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
