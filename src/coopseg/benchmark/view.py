"""Cells in rows and columns as people read them, and their numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from coopseg.benchmark.collected import STEPS
from coopseg.benchmark.differences import SEEN
from coopseg.benchmark.request import WHOLE
from coopseg.results.patients import MEAN

DIGITS = {"mean": 3, "hd95": 1, "assd": 2}
SMALL_P = 0.001
CHANGE_TITLES = {
    "own": "clean, own site", "corrupted": "corrupted", "other": "other sites", "out": "out of domain",
    SEEN: "all without spikes",
}  # fmt: skip

Place = dict[str, str]  # of cells: column, class, group, value
Grid = dict[str, Any]


def places(results: dict[str, Any], *, of: str = MEAN) -> list[Place]:
    """One place a column: all its volumes, one class."""
    return [
        {"column": column["name"], "class": of, "group": "all", "value": ""} for column in results["columns"]
    ]


def group_places(results: dict[str, Any], group: str) -> list[Place]:
    """A place for each phase, vendor or site of each data set that names one, in the order of columns."""
    single = [column["name"] for column in results["columns"] if not column["average"]]
    found = {
        (cell["column"], cell["value"]): None
        for cell in results["cells"]
        if cell["group"] == group and cell["class"] == MEAN and cell["column"] in single
    }
    ordered = sorted(found, key=lambda key: (single.index(key[0]), key[1]))
    return [{"column": name, "class": MEAN, "group": group, "value": value} for name, value in ordered]


def grid(results: dict[str, Any], at: Sequence[Place], *, budget: str = STEPS, measure: str = "mean") -> Grid:
    """Returns the cells at these places, a line a row and head.

    They are {"places", "rows": [{"row", "head", "draws", "cells"}]}. A row without a cell there has the
    state of its cells elsewhere; the best of a place are marked `best` among rows with equal draws (two or
    more of them), compared as shown.
    """
    found = {_key(cell): cell for cell in results["cells"] if cell["budget"] == budget}
    lines = []
    first = {(cell["row"], cell["head"]): cell for cell in reversed(list(found.values()))}
    for row in results["rows"]:
        for head in results["heads"]:
            if (row["name"], head) in first:
                state = first[row["name"], head]
                empty = {"state": "none" if state["state"] == "value" else state["state"]}
                cells = [dict(found.get((row["name"], head, *place.values()), empty)) for place in at]
                draws = draws_text(state)
                lines.append({"row": row["name"], "head": head, "draws": draws, "cells": cells})
    _mark_best(lines, measure)
    return {"places": list(at), "rows": lines}


def _key(cell: dict[str, Any]) -> tuple[str, ...]:
    return cell["row"], cell["head"], cell["column"], cell["class"], cell["group"], cell["value"]


def _mark_best(lines: Sequence[dict[str, Any]], measure: str) -> None:
    pick = max if measure == "mean" else min
    for column in zip(*(line["cells"] for line in lines), strict=True):
        same: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for cell in column:
            cell["best"] = False
            if cell["state"] == "value" and cell[measure] is not None:
                same.setdefault(tuple(cell["draws"]), []).append(cell)
        for cells in same.values():
            several = len({cell["row"] for cell in cells}) > 1
            shown = [round(cell[measure], DIGITS[measure]) for cell in cells]
            fewest = min(cell["distance_missing"] for cell in cells)
            for cell, value in zip(cells, shown, strict=True):
                # a distance that could not be measured is no good one: who misses more does not win
                fair = measure == "mean" or cell["distance_missing"] <= fewest + 1e-9
                cell["best"] = several and fair and value == pick(shown)


def with_values(table: Grid) -> Grid:
    """Without the lines that hold no number."""
    rows = [line for line in table["rows"] if any(cell["state"] == "value" for cell in line["cells"])]
    return table | {"rows": rows}


def draw_names(draws: Iterable[str]) -> str:
    """Returns "A B C"; "–" where the split itself is the only one."""
    return " ".join(draw for draw in draws if draw != WHOLE) or "–"


def draws_text(cell: dict[str, Any]) -> str:
    """Returns "A B C"; "A B (2 of 3)" where jobs have failed or wait; "–" for what has no draws."""
    if cell["state"] != "value":
        return "–"
    names = draw_names(cell["draws"])
    jobs = cell["jobs"]
    return names if jobs["finished"] == jobs["all"] else f"{names} ({jobs['finished']} of {jobs['all']})"


def cell_text(cell: dict[str, Any], measure: str = "mean") -> str:
    """Mean, with ± the standard deviation over draws of a Dice that has several; else the cell's state."""
    if cell["state"] != "value":
        return "–" if cell["state"] == "none" else str(cell["state"])
    if measure != "mean" or cell["sd_draws"] is None:
        return number_text(cell[measure], DIGITS[measure])
    return f"{number_text(cell['mean'])} ± {number_text(cell['sd_draws'])}"


def difference_text(entry: dict[str, Any] | None) -> str:
    """Returns "+0.021 [+0.004, +0.039], p 0.012"; "–" where there is none."""
    if entry is None:
        return "–"
    text = signed(entry["mean"])
    if entry["interval"]:
        text += f" [{', '.join(signed(value) for value in entry['interval'])}]"
    return text + (f", p {p_text(entry['p_holm'])}" if entry["p_holm"] is not None else "")


def number_text(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """With its sign and a true minus; none where it rounds to zero."""
    text = f"{value:+.3f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def p_text(value: float) -> str:
    """Three digits; "< 0.001" below."""
    return f"< {SMALL_P}" if value < SMALL_P else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share as a whole percentage."""
    return "–" if share is None else f"{100 * share:.0f} %"


def compared_with(results: dict[str, Any], *, budget: str = STEPS) -> list[str]:
    """The baselines against which there is any difference, the published one first."""
    found = {entry["against"] for entry in results["differences"] if entry["budget"] == budget}
    return [against for against in results["baselines"] if against in found]


def differences_of(results: dict[str, Any], against: str, *, budget: str = STEPS) -> Grid:
    """The differences to one baseline, a line a row and head that has one, a place a column."""
    found = {
        (entry["row"], entry["head"], entry["column"]): entry
        for entry in results["differences"]
        if (entry["budget"], entry["against"], entry["class"]) == (budget, against, MEAN)
    }
    lines = []
    for row in results["rows"]:
        for head in results["heads"]:
            own = [found.get((row["name"], head, column["name"])) for column in results["columns"]]
            if known := [entry for entry in own if entry]:
                draws = draw_names(known[0]["draws"])
                lines.append({"row": row["name"], "head": head, "draws": draws, "cells": own})
    return {"places": places(results), "rows": lines}


def change_of(results: dict[str, Any], against: str) -> dict[str, Any]:
    """The lines of `change` against one baseline at equal steps, and the titles of the keys that any has."""
    lines = [line for line in results["change"][STEPS] if line["against"] == against]
    titles = {key: title for key, title in CHANGE_TITLES.items() if any(line[key] for line in lines)}
    return {"titles": titles, "rows": lines}
