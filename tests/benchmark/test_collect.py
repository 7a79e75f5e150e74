"""The table of a benchmark folder against sums done by hand over the same metrics.json files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from made_up_bench import ERROR, HEADS, IN_SCAN_GRID, OTHER, OWN, Bench, read_table

from coopseg.benchmark.collect import collect, read_results
from coopseg.errors import CoopsegError
from coopseg.results.files import markdown

OUT = ("RandBias", "RandGhost", "M&Ms")


def cell(results: dict[str, Any], row: str, column: str, head: str = "FTN", **more: str) -> dict[str, Any]:
    wanted = {"row": row, "column": column, "head": head, "class": "mean", "group": "all", "value": "",
              "budget": "steps"} | more  # fmt: skip
    (found,) = [c for c in results["cells"] if all(c[key] == value for key, value in wanted.items())]
    return dict(found)


def difference(results: dict[str, Any], row: str, column: str, head: str = "FTN", **more: str) -> Any:
    wanted = {"row": row, "column": column, "head": head, "class": "mean", "budget": "steps",
              "against": "standard"} | more  # fmt: skip
    found = [c for c in results["differences"] if all(c[key] == value for key, value in wanted.items())]
    return found[0] if found else None


def patients(bench: Path, job: str, dataset: str, head: str = "FTN", **more: str) -> dict[str, float]:
    """Dice of each patient of one job; classes and volumes have the same weight here."""
    rows = json.loads((bench / "jobs" / job / "evaluation" / "metrics.json").read_text())["rows"]
    wanted = {"dataset": dataset, "head": head} | more
    own = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    names = dict.fromkeys(row["patient"] for row in own)
    return {name: fmean(row["dice"] for row in own if row["patient"] == name) for name in names}


def mean_of(*scores: dict[str, float]) -> dict[str, float]:
    return {name: fmean(one[name] for one in scores) for name in scores[0]}


def test_cells_by_hand(large: Path, results: dict[str, Any]) -> None:
    jobs = [f"cooperative-{draw}-0" for draw in "ABC"]
    for dataset in ("ACDC", *OUT):
        draws = [patients(large, job, dataset) for job in jobs]
        own = cell(results, "cooperative", dataset)
        assert own["mean"] == pytest.approx(fmean(mean_of(*draws).values()))
        means = [fmean(draw.values()) for draw in draws]
        assert list(own["draws"].values()) == pytest.approx(means)
        assert own["sd_draws"] == pytest.approx(stdev(means))
        assert own["sd_patients"] == pytest.approx(stdev(mean_of(*draws).values()))
        assert own["n"] == len(OTHER if dataset == "M&Ms" else OWN)
        assert own["interval"][0] < own["mean"] < own["interval"][1]
    for more in ({"class": "RV"}, {"group": "phase", "value": "ES"}):
        narrowed = {more.get("group", "class"): more.get("value", more.get("class", ""))}
        draws = [patients(large, job, "M&Ms", **narrowed) for job in jobs]
        assert cell(results, "cooperative", "M&Ms", **more)["mean"] == pytest.approx(
            fmean(mean_of(*draws).values())
        )
    by_site = [patients(large, job, "M&Ms", site="C/3") for job in jobs]
    found = cell(results, "cooperative", "M&Ms", group="site", value="C/3")
    assert found["mean"] == pytest.approx(fmean(mean_of(*by_site).values()))
    assert found["n"] == 2


def test_averages_by_hand(large: Path, results: dict[str, Any]) -> None:
    names = [column["name"] for column in results["columns"]]
    averages = ("corrupted", "out of domain", "of all", "corrupted (scan grid)")
    assert names == ["ACDC", *OUT, *IN_SCAN_GRID, *(f"average {name}" for name in averages)]
    found = cell(results, "standard", "average out of domain", "FTN+STN")
    draws = [
        fmean(fmean(patients(large, f"standard-{draw}-0", name, "FTN+STN").values()) for name in OUT)
        for draw in "ABC"
    ]
    assert found["mean"] == pytest.approx(fmean(draws))
    assert found["sd_draws"] == pytest.approx(stdev(draws))
    assert found["n"] == len(OWN) + len(OTHER)
    assert found["sd_patients"] is None
    assert cell(results, "standard", "average corrupted")["sd_patients"] is not None
    assert difference(results, "cooperative", "average of all")["trainings"] == 3


def test_differences_are_on_what_both_have(bench: Bench) -> None:
    for draw, seed in (("A", 0), ("A", 1), ("B", 0)):
        bench.finish("standard", draw, seed)
    for draw, seed in (("A", 1), ("B", 0), ("C", 0)):
        bench.finish("randconv", draw, seed)
    bench.finish("dsu", "D")
    found = difference(results := read_table(bench.folder), "randconv", "RandBias")
    ours = mean_of(*(patients(bench.folder, f"randconv-{job}", "RandBias") for job in ("A-1", "B-0")))
    theirs = mean_of(*(patients(bench.folder, f"standard-{job}", "RandBias") for job in ("A-1", "B-0")))
    assert found["mean"] == pytest.approx(fmean(ours[name] - theirs[name] for name in ours))
    assert found["draws"] == ["A", "B"]
    assert difference(results, "dsu", "RandBias") is None
    assert difference(results, "standard", "RandBias") is None
    assert results["change"]["steps"][0]["row"] == "randconv"


def test_every_row_is_held_against_both_standard_trainings(large: Path, results: dict[str, Any]) -> None:
    assert results["baselines"] == ["cooperative-no-latent", "standard"]
    pairs = {(entry["against"], entry["row"]) for entry in results["differences"]}
    assert {row for against, row in pairs if against == "standard"} == {
        "cooperative-no-latent", "randconv", "post-dae", "cooperative-lsm2022", "cooperative", "nnU-Net"
    }  # fmt: skip
    assert {(a, row) for a, row in pairs if a != "standard"} >= {
        ("cooperative-no-latent", "standard"), ("cooperative-no-latent", "cooperative")
    }  # fmt: skip
    found = difference(results, "cooperative", "M&Ms", against="cooperative-no-latent")
    ours = mean_of(*(patients(large, f"cooperative-{draw}-0", "M&Ms") for draw in "AB"))
    theirs = mean_of(*(patients(large, f"cooperative-no-latent-{draw}-0", "M&Ms") for draw in "AB"))
    assert found["mean"] == pytest.approx(fmean(ours[name] - theirs[name] for name in ours))
    assert found["draws"] == ["A", "B"]
    one = difference(results, "cooperative-no-latent", "M&Ms")
    other = difference(results, "standard", "M&Ms", against="cooperative-no-latent")
    assert (one["mean"], one["p"]) == pytest.approx((-other["mean"], other["p"]))


def test_seeds_are_averaged_within_a_draw_first(bench: Bench) -> None:
    for draw, seed in (("A", 0), ("A", 1), ("B", 0)):
        bench.finish("standard", draw, seed)
    a = mean_of(*(patients(bench.folder, f"standard-A-{seed}", "ACDC") for seed in (0, 1)))
    b = patients(bench.folder, "standard-B-0", "ACDC")
    found = cell(read_table(bench.folder), "standard", "ACDC")
    assert found["mean"] == pytest.approx(fmean([*a.values(), *b.values()]))
    assert found["draws"] == pytest.approx({"A": fmean(a.values()), "B": fmean(b.values())})


def test_families_of_holm(results: dict[str, Any]) -> None:
    entries = [e for e in results["differences"] if e["budget"] == "steps" and e["class"] == "mean"]
    for column, head, against in itertools.product(("ACDC", *OUT), HEADS, results["baselines"]):
        family = [e for e in entries if (e["column"], e["head"], e["against"]) == (column, head, against)]
        assert len({e["row"] for e in family}) == len(family)
        assert all(e["p_holm"] >= e["p"] for e in family)
        assert {e["family"] for e in family} == {len(family)}
        least = min(family, key=lambda e: e["p"])
        assert least["p_holm"] == pytest.approx(min(1, len(family) * least["p"]))


def test_one_and_the_same_network_is_not_tested(bench: Bench) -> None:
    bench.score = lambda facts: 0.5 + 0.4 * (facts["row"] == "dsu") + 0.001 * int(facts["patient"][1:])
    for row in ("standard", "post-dae", "dsu"):
        bench.finish(row)
    results = read_table(bench.folder)
    same, other = difference(results, "post-dae", "ACDC"), difference(results, "dsu", "ACDC")
    assert (same["mean"], same["p"], same["p_holm"], same["family"]) == (0, None, None, None)
    assert other["mean"] == pytest.approx(0.4)
    assert other["family"] == 1
    assert other["p_holm"] == other["p"] == pytest.approx(2 / 2**8)  # all eight patients better


def test_states(results: dict[str, Any]) -> None:
    assert cell(results, "dsu", "ACDC")["state"] == "failed"
    assert cell(results, "mixstyle", "ACDC", "FTN+STN")["state"] == "waiting"
    assert cell(results, "cooperative-lsm2022", "ACDC", "FTN+STN")["state"] == "n/a"
    assert cell(results, "nnU-Net", "ACDC", "FTN+STN")["state"] == "n/a"
    partly = cell(results, "post-dae", "ACDC")
    assert partly["state"] == "value"
    assert list(partly["draws"]) == ["A", "B"]
    assert partly["jobs"] == {"finished": 2, "failed": 1, "all": 3}
    assert results["jobs"]["all"] == 23
    assert results["jobs"]["finished"] == 16
    assert [job["id"] for job in results["jobs"]["failed"]] == ["post-dae-C-0", "dsu-A-0"]
    assert results["jobs"]["failed"][0]["error"] == ERROR
    waiting = [job["id"] for job in results["jobs"]["waiting"]]
    assert waiting == [
        "mixstyle-A-0",
        *(f"{job}-0-equal-time" for job in ("standard-B", "standard-C", "cooperative-lsm2022-A")),
        "cooperative-no-latent-B-0-equal-time",
    ]


def test_heads_of_a_row_without_scores_are_those_of_its_settings(bench: Bench) -> None:
    bench.ask(["cooperative-lsm2022", "cooperative+randconv", "post-dae"])
    bench.fail("cooperative-lsm2022")
    heads = {row["name"]: row["heads"] for row in read_table(bench.folder)["rows"]}
    assert heads.pop("cooperative-lsm2022") == ["FTN"]
    assert set(map(tuple, heads.values())) == {HEADS}


def test_rows_are_in_the_published_order(results: dict[str, Any]) -> None:
    rows = results["rows"]
    assert [row["name"] for row in rows] == [
        "standard", "cooperative-no-latent", "randconv", "post-dae", "mixstyle", "dsu",
        "cooperative-lsm2022", "cooperative", "nnU-Net",
    ]  # fmt: skip
    (denoiser,) = [row for row in rows if row["note"]]
    assert denoiser["name"] == "post-dae"
    assert "denoising autoencoder" in denoiser["note"]


def test_a_predictor_is_held_against_every_draw(large: Path, results: dict[str, Any]) -> None:
    assert [c["domain"] for c in results["columns"][:4]] == ["intra", "corrupted", "corrupted", "other"]
    found = difference(results, "nnU-Net", "M&Ms")
    theirs = mean_of(*(patients(large, f"standard-{draw}-0", "M&Ms") for draw in "ABC"))
    ours = patients(large, "nnU-Net---0", "M&Ms")
    assert found["mean"] == pytest.approx(fmean(ours[name] - theirs[name] for name in ours))
    assert found["draws"] == ["A", "B", "C"]


def test_a_predictor_alone_knows_its_own_site_by_place(bench: Bench) -> None:
    bench.finish("nnU-Net", "-", kind="predictor", heads=HEADS[:1])
    columns = read_table(bench.folder)["columns"]
    domains = {c["name"]: c["domain"] for c in columns if c["domain"] != "average"}
    assert domains == {
        "ACDC": "intra", "M&Ms": "other", "no artefact (scan grid)": "no artefact",
        "RandBias (scan grid)": "scan grid", "RandGhost (scan grid)": "scan grid",
    }  # fmt: skip


def test_copies_of_the_two_grids_are_apart(large: Path, results: dict[str, Any]) -> None:
    """No average is over both, and no row has a score on copies on which it was not tested."""
    datasets = {column["name"]: column["datasets"] for column in results["columns"]}
    published, whole = ["RandBias", "RandGhost"], ["RandBias (scan grid)", "RandGhost (scan grid)"]
    averages = {name: found for name, found in datasets.items() if found != [name]}
    assert averages == {
        "average corrupted": published,
        "average out of domain": [*published, "M&Ms"],
        "average of all": ["ACDC", *published, "M&Ms"],
        "average corrupted (scan grid)": whole,
    }
    states = {
        row: {name: cell(results, row, name)["state"] for name in ("RandBias", whole[0])}
        for row in ("nnU-Net", "standard", "cooperative")
    }
    assert states == {
        "nnU-Net": {"RandBias": "not evaluated", whole[0]: "value"},
        "standard": {"RandBias": "value", whole[0]: "value"},
        "cooperative": {"RandBias": "value", whole[0]: "not evaluated"},
    }
    ours = [patients(large, "nnU-Net---0", name) for name in whole]
    mean = cell(results, "nnU-Net", "average corrupted (scan grid)")["mean"]
    assert mean == pytest.approx(fmean(fmean(own.values()) for own in ours))
    assert difference(results, "nnU-Net", whole[0])["n"] == 8
    text = markdown(read_results(large))
    assert "Copies of the two sorts do not compare." in text


def test_equal_time(large: Path, results: dict[str, Any]) -> None:
    assert results["budgets"] == ["steps", "time"]
    timed = cell(results, "standard", "ACDC", budget="time")
    expected = fmean(patients(large, "standard-A-0-equal-time", "ACDC").values())
    assert timed["mean"] == pytest.approx(expected)
    assert timed["jobs"] == {"finished": 1, "failed": 0, "all": 3}
    by_steps, by_time = (cell(results, "cooperative", "ACDC", budget=name) for name in ("steps", "time"))
    assert by_time["mean"] == by_steps["mean"]  # its own steps are the time that all get
    assert {c["row"] for c in results["cells"] if c["budget"] == "time"} == {
        "standard",
        "cooperative-no-latent",
        "randconv",
        "cooperative-lsm2022",
        "cooperative",
    }
    found = difference(results, "cooperative", "ACDC", budget="time")
    ours = fmean(patients(large, "cooperative-A-0", "ACDC").values())
    assert found["mean"] == pytest.approx(ours - expected)
    assert found["draws"] == ["A"]


def test_change_picks_the_widest_columns(results: dict[str, Any]) -> None:
    for against in results["baselines"]:
        (line,) = [
            e for e in results["change"]["steps"]
            if (e["row"], e["head"], e["against"]) == ("randconv", "FTN", against)
        ]  # fmt: skip
        names = {key: line[key]["column"] for key in ("own", "corrupted", "other", "out")}
        assert names == {"own": "ACDC", "corrupted": "average corrupted", "other": "M&Ms",
                         "out": "average out of domain"}  # fmt: skip
        assert line["without_spikes"] is None
        assert line["out"] == difference(results, "randconv", "average out of domain", against=against)


def test_an_average_without_spikes_stands_beside_that_of_all(bench: Bench) -> None:
    for kind in ("RandSpike", "RandBias"):
        bench.datasets.pop(kind, None)
        bench.datasets[kind] = "corrupted"
    for row in ("standard", "dsu"):
        bench.finish(row)
    results = read_table(bench.folder)
    averages = {c["name"]: c["datasets"] for c in results["columns"] if c["domain"] == "average"}
    assert list(averages)[-2:] == ["average of all", "average without spikes"]
    seen = ["ACDC", "RandGhost", "RandBias", "M&Ms"]
    assert averages["average without spikes"] == seen
    ours, theirs = (
        fmean(fmean(patients(bench.folder, f"{row}-A-0", name).values()) for name in seen)
        for row in ("dsu", "standard")
    )
    assert cell(results, "dsu", "average without spikes")["mean"] == pytest.approx(ours)
    line = next(line for line in results["change"]["steps"] if (line["row"], line["head"]) == ("dsu", "FTN"))
    assert line["without_spikes"]["mean"] == pytest.approx(ours - theirs)


@pytest.mark.parametrize(
    ("kinds", "averages"),
    [(["RandSpike"], ["average of all"]), (["RandBias"], ["average of all"]), ([], [])],
)
def test_no_average_without_spikes_where_it_would_be_over_one_set_or_all(
    bench: Bench, kinds: list[str], averages: list[str]
) -> None:
    bench.datasets = {"ACDC": "intra", **dict.fromkeys(kinds, "corrupted")}
    bench.finish("standard")
    columns = read_table(bench.folder)["columns"]
    assert [column["name"] for column in columns if column["domain"] == "average"] == averages


def test_without_another_site(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "own", cross=False)
    for row in ("standard", "dsu"):
        bench.finish(row)
    results = read_table(bench.folder)
    names = [column["name"] for column in results["columns"]]
    assert names == ["ACDC", "RandBias", "RandGhost", "average corrupted", "average of all"]
    line = results["change"]["steps"][0]
    assert line["other"] is None
    assert line["out"]["column"] == "average corrupted"


def test_severity(large: Path, results: dict[str, Any]) -> None:
    curve = next(c for c in results["severity"] if (c["row"], c["kind"]) == ("cooperative", "RandGhost"))
    assert [point["severity"] for point in curve["points"]] == [0, 0.5, 1]
    clean, half, whole = (point["mean"] for point in curve["points"])
    assert clean == pytest.approx(cell(results, "cooperative", "ACDC")["mean"])
    assert whole == pytest.approx(cell(results, "cooperative", "RandGhost")["mean"])
    files = [large / f"jobs/cooperative-{draw}-0/severities/0.5/metrics.json" for draw in "ABC"]
    rows = [row for file in files for row in json.loads(file.read_text())["rows"]]
    assert half == pytest.approx(
        fmean(r["dice"] for r in rows if (r["dataset"], r["head"]) == ("RandGhost", "FTN"))
    )
    assert {c["row"] for c in results["severity"]} == {"standard", "cooperative"}


def test_severity_nought_is_what_was_measured_where_it_was_asked_for(bench: Bench) -> None:
    bench.score = lambda facts: {None: 0.8, 0: 0.7, 0.05: 0.5}[facts.get("severity")]
    bench.finish("standard", severities=[0, 0.05])
    bench.finish("cooperative", severities=[0.05])
    curves = {
        (curve["row"], curve["kind"], curve["head"]): curve for curve in read_table(bench.folder)["severity"]
    }
    asked, other = (curves[row, "RandBias", "FTN"] for row in ("standard", "cooperative"))
    points: list[Any] = [(point["severity"], pytest.approx(point["mean"])) for point in asked["points"]]
    assert points == [(0, 0.7), (0.05, 0.5), (1, 0.8)]  # one point at 0, and it is not the clean set's 0.8
    assert asked["measured_nought"]
    assert other["points"][0]["mean"] == pytest.approx(0.8)
    assert not other["measured_nought"]


def test_points_of_a_curve_are_over_the_same_jobs(bench: Bench) -> None:
    bench.finish("standard", "A", severities=[0.05, 0.5])
    bench.finish("standard", "B", severities=[0.5])
    bench.finish("standard", "C")
    bench.finish("dsu", "A", severities=[0.05])
    bench.finish("dsu", "B", severities=[0.5])
    curves = read_table(bench.folder)["severity"]
    assert {curve["row"] for curve in curves} == {"standard"}
    assert {tuple(point["severity"] for point in curve["points"]) for curve in curves} == {(0, 0.5, 1)}
    curve = next(curve for curve in curves if (curve["kind"], curve["head"]) == ("RandBias", "FTN"))
    assert curve["draws"] == ["A", "B"]
    both = [fmean(patients(bench.folder, f"standard-{draw}-0", "RandBias").values()) for draw in "AB"]
    assert curve["points"][-1]["mean"] == pytest.approx(fmean(both))


def test_cost(results: dict[str, Any]) -> None:
    cost = {entry["row"]: entry for entry in results["cost"]}
    assert cost["randconv"]["seconds_per_step"] == pytest.approx(0.6)
    assert {entry["against"] for entry in results["cost"]} == {"cooperative-no-latent"}  # the published one
    assert cost["randconv"]["times_baseline"] == pytest.approx(0.6 / 0.8)
    assert cost["cooperative"]["trainings"]["steps"]["jobs"] == 3
    assert cost["randconv"]["trainings"]["time"]["steps"] == 250
    assert cost["dsu"]["error"] == ERROR
    assert cost["dsu"]["trainings"] == {}
    assert cost["mixstyle"]["seconds_per_step"] is None


def test_nothing_has_finished_yet(bench: Bench) -> None:
    bench.ask(["standard", "cooperative"], ["A", "B"])
    bench.job("standard", "A")
    results = read_table(bench.folder)
    assert results["columns"] == results["cells"] == results["differences"] == results["severity"] == []
    assert len(results["jobs"]["waiting"]) == 4
    assert {row["name"] for row in results["rows"]} == {"standard", "cooperative"}


def test_only_plain_numbers(results: dict[str, Any]) -> None:
    assert json.loads(json.dumps(results, allow_nan=False))["cells"]


def test_what_is_no_benchmark(tmp_path: Path, bench: Bench) -> None:
    with pytest.raises(CoopsegError, match=r"benchmark\.json: not found"):
        read_table(tmp_path)
    (bench.finish("standard") / "evaluation" / "metrics.json").write_text("{")
    with pytest.raises(CoopsegError, match=r"metrics\.json: cannot be read"):
        read_table(bench.folder)


@pytest.mark.parametrize(
    "name", ["result.json", "training/run.json", "evaluation/evaluation.json", "evaluation/metrics.json"]
)
def test_damaged_files_of_a_job(
    name: str, bench: Bench, refuses_damage: Callable[[Path, Callable[[], object]], int]
) -> None:
    job = bench.finish("standard")
    rows = json.loads((job / "evaluation" / "metrics.json").read_text())["rows"][:8]
    (job / "evaluation" / "metrics.json").write_text(json.dumps({"rows": rows}))
    assert refuses_damage(job / name, lambda: collect(bench.folder).study) > 40


@pytest.mark.parametrize(("name", "least"), [("jobs/dsu-A-0/error.json", 20), ("probes/dsu.json", 30)])
def test_damaged_errors_and_probes(
    name: str, least: int, bench: Bench, refuses_damage: Callable[[Path, Callable[[], object]], int]
) -> None:
    bench.fail("dsu")
    bench.probe("dsu", 1.0)
    assert refuses_damage(bench.folder / name, lambda: collect(bench.folder).results.cost) >= least
