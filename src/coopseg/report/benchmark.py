"""The report of a benchmark: all that it shows as one dictionary, and the page made of it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coopseg import __version__
from coopseg.benchmark.captions import cost_unit, nothing_compared, nought_text, spikes_note
from coopseg.benchmark.collected import STEPS, TIME, Collected, collect
from coopseg.benchmark.figures import FIGURES, draw_figures, save
from coopseg.benchmark.table import tabulate
from coopseg.benchmark.view import (
    Grid,
    change_of,
    compared_with,
    differences_of,
    grid,
    group_places,
    percent,
    places,
    with_values,
)
from coopseg.config.methods import title_of
from coopseg.inference.predictor import HEADS
from coopseg.report.benchmark_answer import answer, ask
from coopseg.report.benchmark_pictures import slice_panels
from coopseg.report.images import class_colours
from coopseg.report.page import fill
from coopseg.report.provenance import command_text, distinct
from coopseg.results.patients import MEAN

BENCHMARK_PAGE = "benchmark.html"
REQUEST_SHOWN = (
    "data", "cross", "split", "preset", "settings", "precision", "device", "layout", "labels", "spacing",
    "copies", "seed_of_corruption", "equal_time", "severities", "severity_methods", "predictors", "blocks",
)  # fmt: skip
GROUPS = {"phase": "phase", "vendor": "vendor", "site": "vendor/centre"}


def collect_benchmark(bench: Path) -> dict[str, Any]:
    """The content of a report on a benchmark folder; JSON types only, no NaN.

    results: see `coopseg.benchmark.table.tabulate`. Raises CoopsegError where the folder is no benchmark.
    """
    collected = collect(bench)
    results = tabulate(collected)
    names: list[str] = next((ended.evaluation["model"]["names"] for ended in collected.finished), [])
    return {
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "coopseg": __version__,
        "question": ask(results),
        "answer": answer(results),
        "results": results,
        "tables": [summary_table(results)] if results["columns"] else [],
        "classes": class_colours(names),
        "slices": slice_panels(collected, results["columns"]),
        "provenance": provenance(collected),
    }


def summary_table(results: dict[str, Any], budget: str = STEPS) -> dict[str, Any]:
    """The main table in the form of `coopseg.report.scores.score_table`: what the command line prints."""
    table = grid(results, places(results), budget=budget)
    columns = [
        column | {"title": column["name"].removeprefix("average " if column["average"] else "")}
        for column in results["columns"]
    ]
    rows = [
        {
            "method": title_of(line["row"]),
            "head": line["head"],
            "cells": [_shown(cell) for cell in line["cells"]],
        }
        for line in table["rows"]
    ]
    return {"class": MEAN, "measure": "dice", "digits": 3, "columns": columns, "rows": rows}


def _shown(cell: dict[str, Any]) -> dict[str, Any]:
    if cell["state"] != "value":
        return {"state": cell["state"]}
    over = None if cell["sd_draws"] is None else "runs"
    keys = {key: cell[key] for key in ("state", "mean", "best")}
    return keys | {"spread": cell["sd_draws"], "spread_over": over}


def provenance(collected: Collected) -> dict[str, Any]:
    """Request, commands, versions, machines, and every job with its time and warnings."""
    request = collected.request.model_dump(mode="json")
    found = [request["versions"]]
    for ended in collected.jobs:
        found += [record.get("versions", {}) for record in (ended.run, ended.evaluation)]
    keys = dict.fromkeys(key for versions in found for key in versions)
    return {
        "folder": str(collected.folder),
        "started": request["started"],
        "command": command_text(request["command"]),
        "request": [{"key": key, "value": request[key]} for key in REQUEST_SHOWN],
        "versions": [{"name": key, "versions": distinct(v[key] for v in found if key in v)} for key in keys],
        "jobs": [
            {
                "id": ended.job.id,
                "state": ended.state,
                "steps": ended.run.get("steps"),
                "warnings": [*ended.run.get("warnings", []), *ended.evaluation.get("warnings", [])],
                **{
                    key: ended.outcome.get(key)
                    for key in ("training_seconds", "seconds", "machine", "finished")
                },
            }
            for ended in collected.jobs
        ],
    }


def render_benchmark(content: dict[str, Any]) -> str:
    """The page on the content of `collect_benchmark`, one HTML document that needs no other file."""
    results = content["results"]
    figures: dict[str, str | None] = dict.fromkeys(FIGURES)
    figures |= {
        name: "data:image/svg+xml;base64," + base64.b64encode(save(figure, "svg")).decode()
        for name, figure in draw_figures(results).items()
    }
    tools = {
        "percent": percent,
        "title_of": title_of,
    }
    return fill(BENCHMARK_PAGE, content | {"views": views(results), "figures": figures, **tools})


def views(results: dict[str, Any]) -> dict[str, Any]:
    """Every table of the page, laid out in lines and cells; see `coopseg.benchmark.view`."""
    main = grid(results, places(results))
    return {
        "main": main,
        "some": with_values(main),
        "differences": list(_differences(results, STEPS)),
        "change": [{"against": against, **change_of(results, against)} for against in compared_with(results)],
        "timed": grid(results, places(results), budget=TIME) if TIME in results["budgets"] else None,
        "timed_differences": list(_differences(results, TIME)),
        "more": list(_more(results)),
        "notes": {
            "spikes": spikes_note(results),
            "nothing_compared": nothing_compared(results),
            "cost_unit": cost_unit(results),
            "nought": nought_text(results),
        },
    }


def _differences(results: dict[str, Any], budget: str) -> Iterator[Grid]:
    """A table for each baseline and head that has any, the last head first."""
    for against in compared_with(results, budget=budget):
        table = differences_of(results, against, budget=budget)
        for head in reversed(HEADS):
            if rows := [line for line in table["rows"] if line["head"] == head]:
                yield table | {"against": against, "head": head, "rows": rows}


def _more(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Tables that are folded away: each class, phase, vendor, site, and distances where measured."""
    for name in results["classes"]:
        if name != MEAN:
            yield {"title": f"Dice of {name}", "measure": "mean"} | grid(results, places(results, of=name))
    for group, title in GROUPS.items():
        if at := group_places(results, group):
            yield {"title": f"Dice by {title}", "measure": "mean"} | grid(results, at)
    for measure in ("hd95", "assd"):
        table = grid(results, places(results), measure=measure)
        if any(cell.get(measure) is not None for line in table["rows"] for cell in line["cells"]):
            yield {"title": f"{measure.upper()} in mm, less is better", "measure": measure} | table
