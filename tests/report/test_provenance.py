"""Settings that differ, versions that differ, and the facts of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coopseg.report.provenance import (
    command_text,
    evaluation_text,
    pooled_settings,
    records_of,
    runs_table,
    settings_table,
    versions_table,
)
from coopseg.report.sources import read_runs

Maker = Callable[..., Path]


def test_settings_that_differ(make_run: Maker) -> None:
    runs = read_runs([make_run("a"), make_run("b", seed=1), make_run("c", method="standard")])
    table = settings_table(runs, differing=True)
    assert [heading.text for heading in table.headings] == ["cooperative", "standard"]
    differing = {line.names[0]: [str(cell) for cell in line.cells] for line in table.lines}
    assert differing == {
        "method": ["cooperative", "standard"],
        "latent.image": ["true", "false"],
        "latent.shape": ["true", "false"],
        "losses.separate": ["false", "true"],
        "seed": ["0, 1", "0"],
    }
    whole = {line.names[0]: [str(cell) for cell in line.cells] for line in settings_table(runs).lines}
    assert whole.items() > differing.items()
    assert pooled_settings(runs) == {}


def test_pooling_what_differs_is_noticed(make_run: Maker) -> None:
    runs = [make_run("a"), make_run("b", **{"latent.p": 0.3})]
    assert pooled_settings(read_runs(runs)) == {"cooperative": ["latent.p"]}


def test_facts(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    make_evaluation(run)
    found = read_runs([run])
    table = runs_table(found)
    facts = dict(
        zip([heading.text for heading in table.headings], map(str, table.lines[0].cells), strict=True)
    )
    assert facts["patients: train / val. / test"] == "2 / 1 / 6"
    assert (facts["time, h:min:s"], facts["peak memory, GB"]) == ("1:01:15", "1.23")
    assert (facts["last validation Dice"], facts["best, at step"]) == (
        "FTN 0.500; FTN+STN 0.200", "0.500, 40; 0.400, 20"
    )  # fmt: skip
    assert command_text(found[0].record["command"]) == "coopseg train --out a"
    assert command_text(["/x/coopseg/__main__.py", "train"]) == "python -m coopseg train"
    assert command_text(None) == ""
    assert "on cpu, precision 32, STN applied 1×" in evaluation_text(found[0].evaluations[0])
    (line,) = versions_table(records_of(found)).lines
    assert line.names == ("torch", "2.13.0, 2.13.1 (they differ)")
