"""Settings that differ, versions that differ, and the facts of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coopseg.report.provenance import describe_run, settings_table, versions_table
from coopseg.report.scores import find_methods
from coopseg.report.sources import read_runs

Maker = Callable[..., Path]


def test_settings_that_differ(make_run: Maker) -> None:
    runs = [make_run("a"), make_run("b", seed=1), make_run("c", method="standard")]
    table = settings_table(find_methods(read_runs(runs)))
    differing = {row["key"]: row["values"] for row in table["rows"] if row["differs"]}
    assert differing == {
        "method": {"cooperative": ["cooperative"], "standard": ["standard"]},
        "latent.image": {"cooperative": [True], "standard": [False]},
        "latent.shape": {"cooperative": [True], "standard": [False]},
        "losses.separate": {"cooperative": [False], "standard": [True]},
        "seed": {"cooperative": [0, 1], "standard": [0]},
    }
    assert table["pooled"] == {}


def test_pooling_what_differs_is_noticed(make_run: Maker) -> None:
    runs = [make_run("a"), make_run("b", **{"latent.p": 0.3})]
    assert settings_table(find_methods(read_runs(runs)))["pooled"] == {"cooperative": ["latent.p"]}


def test_facts(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    make_evaluation(run)
    (found,) = read_runs([run])
    facts = describe_run(found)
    assert facts["split"] == {"train": 2, "validate": 1, "test": 6, "name": "hand"}
    assert (facts["seconds"], facts["peak_memory_gb"], facts["command"]) == (
        3675.0,
        1.234,
        "coopseg train --out a",
    )
    (found.folder / "run.json").write_text(
        (found.folder / "run.json").read_text().replace("/x/bin/coopseg", "/x/coopseg/__main__.py")
    )
    assert describe_run(*read_runs([run]))["command"] == "python -m coopseg train --out a"
    assert facts["evaluations"][0]["command"] == "coopseg evaluate"
    assert versions_table([found]) == [{"name": "torch", "versions": ["2.13.0", "2.13.1"]}]
