"""Which evaluation belongs to which run, and everything that cannot be told apart or read."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.report.pictures import slice_pictures, stored_of_runs
from coopseg.report.provenance import of_runs
from coopseg.report.run import write_report
from coopseg.report.sources import as_study, read_evaluation, read_run, read_runs
from coopseg.report.training import loss_curves, rises, validation_curves
from coopseg.results.columns import find_columns, same_patients
from coopseg.results.patients import ALL, MEAN
from coopseg.results.scores import Cell
from coopseg.results.table import Results, tabulate

Maker = Callable[..., Path]


def test_names_and_labels(make_run: Maker) -> None:
    folders = [make_run("a"), make_run("b", method="standard"), make_run("c", seed=1), make_run("d", seed=1)]
    found = read_runs([*folders[:3], f"cooperative={folders[3]}"])
    assert [(run.method, run.label) for run in found] == [
        ("cooperative", "seed 0"),
        ("standard", "seed 0"),
        ("cooperative", "seed 1 (1)"),
        ("cooperative", "seed 1 (2)"),
    ]
    assert [run.sha256 for run in found] == ["sha-a", "sha-b", "sha-c", "sha-d"]


def test_evaluations_go_to_the_run_whose_weights_they_saw(
    make_run: Maker, make_evaluation: Maker, tmp_path: Path
) -> None:
    first, second = make_run("a"), make_run("b", seed=1)
    make_evaluation(first, datasets={"ACDC": "intra"})
    make_evaluation(first, first / "more", datasets={"RandBias": "corrupted"})
    apart = make_evaluation(second, tmp_path / "apart", datasets={"ACDC": "intra"})
    found = read_runs([first, second], evaluations=[apart, first / "evaluation"])  # one is found twice
    assert [entry.folder for entry in found[0].evaluations] == [first / "evaluation", first / "more"]
    assert [entry.folder for entry in found[1].evaluations] == [apart]
    assert [entry.name for entry in found[0].data] == ["ACDC", "RandBias"]
    assert {row["dataset"] for row in found[0].rows} == {"ACDC", "RandBias"}
    assert len(found[1].rows) == 6 * 2 * 2 * 2


def test_an_evaluation_of_no_given_run(make_run: Maker, make_evaluation: Maker, tmp_path: Path) -> None:
    run, other = make_run("a"), make_run("b")
    stray = make_evaluation(other, tmp_path / "stray")
    assert read_run("", other).sha256 == "sha-b"  # though its best weights lie beside its last
    with pytest.raises(CoopsegError, match=r"stray: evaluates .*b/last.safetensors \(SHA-256 sha-b\)"):
        read_runs([run], evaluations=[stray])
    shutil.move(stray, run / "evaluation")  # such as one made before the run was trained again
    with pytest.raises(CoopsegError, match=r"evaluation: evaluates .* not the last weights of a run"):
        read_runs([run])


def test_a_model_made_elsewhere_stands_beside_the_runs(
    make_run: Maker, make_evaluation: Maker, tmp_path: Path
) -> None:
    """Given by its evaluations; held against every training, and never the baseline of one."""
    runs = [make_run("a"), make_run("b", seed=1)]
    for run in runs:
        make_evaluation(run)
    other = tmp_path / "other"
    clean = make_evaluation(other, datasets={"ACDC": "other"}, heads=["FTN"])
    copies = make_evaluation(other, other / "copies", datasets={"RandBias": "corrupted"}, heads=["FTN"])
    for folder in (clean, copies):
        record = json.loads((folder / "evaluation.json").read_text())
        record["model"] |= {"path": "mine:segment", "sha256": None}
        (folder / "evaluation.json").write_text(json.dumps(record))
    found = read_runs([f"nnU-Net={clean}", *runs, f"nnU-Net={copies}"])
    assert [(run.method, run.elsewhere, len(run.evaluations)) for run in found] == [
        ("cooperative", False, 1), ("cooperative", False, 1), ("nnU-Net", True, 2),
    ]  # fmt: skip
    study = as_study(found)
    results = tabulate(study)
    assert study.baselines == ("cooperative",)
    assert [(row.name, row.heads, row.predictor, row.draws) for row in results.rows] == [
        ("cooperative", ("FTN", "FTN+STN"), False, ("-",)), ("nnU-Net", ("FTN",), True, ()),
    ]  # fmt: skip
    assert {column.name: column.domain for column in results.columns}["ACDC"] == "intra"
    (difference,) = [e for e in results.differences if (e.column, e.class_) == ("ACDC", MEAN)]
    assert (difference.row, difference.head, difference.trainings) == ("nnU-Net", "FTN", 2)
    every: list[str | Path] = [f"nnU-Net={clean}", *runs, f"nnU-Net={copies}"]
    for together in (every, [clean]):
        page = write_report(together, tmp_path / f"page {len(together)}").read_text()
        assert "mine:segment" in page
    with pytest.raises(CoopsegError, match="ACDC was evaluated in"):
        read_runs([f"x={clean}", f"x={shutil.copytree(clean, tmp_path / 'again')}"])
    record["model_settings"] = {}
    (copies / "evaluation.json").write_text(json.dumps(record))
    with pytest.raises(CoopsegError, match=r"copies: evaluates mine:segment; give the run folder"):
        read_runs([copies])


def test_a_data_set_evaluated_twice(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    for name in ("one", "two"):
        make_evaluation(run, run / name, datasets={"ACDC": "intra"})
    with pytest.raises(CoopsegError, match=r"ACDC was evaluated in .*one and in .*two; keep one"):
        read_runs([run])


def test_no_run_folder(make_run: Maker, tmp_path: Path) -> None:
    run = make_run("a")
    wrong: Any
    for wrong, message in (
        ([], "nothing to report"),
        ([tmp_path / "none"], "none/run.json: not found"),
        ([run, f"other={run}"], "a: given twice"),
    ):
        with pytest.raises(CoopsegError, match=message):
            read_runs(wrong)
    weights = run / "last.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(CoopsegError, match=r"last.safetensors: cannot be read as safetensors"):
        read_run("", run)
    weights.unlink()
    with pytest.raises(CoopsegError, match=r"holds no last.safetensors"):
        read_run("", run)
    (run / "run.json").write_text("[]")
    with pytest.raises(CoopsegError, match=r"run.json: the whole: Input should be .* dictionary"):
        read_run("", run)
    (run / "run.json").write_text("{")
    with pytest.raises(CoopsegError, match=r"run.json: cannot be read as JSON"):
        read_run("", run)


def test_what_is_no_evaluation(make_run: Maker, make_evaluation: Maker, tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=r"evaluation.json: not found"):
        read_evaluation(tmp_path)
    folder = make_evaluation(make_run("a"))
    record = json.loads((folder / "evaluation.json").read_text())
    del record["data"][0]["domain"]
    (folder / "evaluation.json").write_text(json.dumps(record))
    with pytest.raises(CoopsegError, match=r"data\.0\.domain: Field required; .*evaluate again"):
        read_evaluation(folder)


def test_a_log_with_what_json_lacks(make_run: Maker) -> None:
    run = make_run("a")
    (run / "log.jsonl").write_text('{"kind": "train", "step": 1, "total": NaN}\n{"kind": "tr')
    with pytest.raises(CoopsegError, match=r"log.jsonl: line 2 is no JSON"):
        read_run("", run)
    (run / "log.jsonl").write_text('{"kind": "train", "step": 1, "total": NaN}\n')
    assert read_run("", run).log[0]["total"] is None
    (run / "log.jsonl").unlink()
    assert read_run("", run).log == []


@pytest.mark.parametrize(
    ("name", "least"),
    [("run.json", 90), ("evaluation/evaluation.json", 60), ("evaluation/metrics.json", 50)],
)
def test_damaged_records(
    name: str, least: int, make_run: Maker, make_evaluation: Maker, refuses_damage: Callable[..., int]
) -> None:
    run = make_run("a", log=False)
    make_evaluation(run, datasets={"ACDC": "intra"}, patients=["p1"])

    columns = find_columns(as_study(read_runs([run])).trained)

    def read() -> None:
        runs = read_runs([run])
        list(of_runs(runs))
        assert len(slice_pictures(stored_of_runs(runs, {"cooperative": "FTN"}), columns)) <= 1

    assert refuses_damage(run / name, read) >= least


def test_damaged_lines_of_a_log(make_run: Maker) -> None:
    run = make_run("a")
    generator = random.Random(0)
    wrong: list[Any] = [None, "x", -1, 10**30, math.nan, [], {}, [[]], {"mean": "x"}, {"mean": None}, True]
    content = (run / "log.jsonl").read_text()
    for _ in range(200):
        lines = [json.loads(line) for line in content.splitlines()]
        line = generator.choice(lines)
        line[generator.choice(list(line))] = generator.choice(wrong)
        (run / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
        with suppress(CoopsegError):
            found = [read_run("", run)]
            assert all(
                curve.points for curve in (*loss_curves(found), *validation_curves(found), *rises(found))
            )


@pytest.mark.parametrize(
    "damage",
    [b"", b"PK", b"\x00" * 99, "half", "flipped", "bomb", "objects", "floats", "missing", "other size"],
)
def test_damaged_pictures(damage: bytes | str, make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    file = make_evaluation(run, datasets={"ACDC": "intra"}, patients=["p1"]) / "slices.npz"
    content, arrays = file.read_bytes(), dict(np.load(file))
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    elif damage == "half":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        place = content.index(b"0/FTN.npy") + 60
        file.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    elif damage == "bomb":  # 400 MB in 400 kB
        np.savez_compressed(file, **arrays | {"9/image": np.zeros((20000, 20000), np.uint8)})
    elif damage == "objects":
        np.savez(file, **arrays | {"0/image": np.array([[{}]])})
    elif damage == "floats":
        np.savez(file, **arrays | {"0/image": np.full((20, 24), np.nan)})
    elif damage == "missing":
        np.savez(file, **{name: values for name, values in arrays.items() if name != "0/truth"})
    else:
        np.savez(file, **arrays | {"0/image": np.zeros((2, 3, 4), np.uint8)})
    runs = read_runs([run])
    columns = find_columns(as_study(runs).trained)
    tracemalloc.start()
    try:
        with pytest.raises(CoopsegError, match=r"slices\.npz: .*; run what wrote it again"):
            slice_pictures(stored_of_runs(runs, {"cooperative": "FTN"}), columns)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def dice_by_patient(folder: Path, dataset: str, head: str) -> list[float]:
    """From cases.csv alone: the mean over all rows of a patient (each volume has as many classes)."""
    found = defaultdict(list)
    with (folder / "cases.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["dataset"], row["head"]) == (dataset, head):
                found[row["patient"]].append(float(row["dice"]))
    return [mean(values) for values in found.values()]


def table_of(folders: list[Any]) -> Results:
    """The table of runs."""
    return tabulate(as_study(read_runs(folders)))


def cells_of(results: Results, row: str, head: str) -> dict[str, Cell]:
    """By column the cells over all volumes, foreground mean."""
    own = [cell for cell in results.cells if (cell.row, cell.head) == (row, head)]
    return {cell.column: cell for cell in own if (cell.class_, cell.group) == (MEAN, ALL)}


def test_one_run(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    folder = make_evaluation(run)
    results = table_of([run])
    names = ("ACDC", "RandBias", "RandSpike", "Vendor B")
    averages = ["average corrupted", "average out of domain", "average of all", "average without spikes"]
    assert [column.name for column in results.columns] == [*names, *averages]
    assert [column.domain for column in results.columns[:4]] == ["intra", "corrupted", "corrupted", "other"]
    for head in ("FTN", "FTN+STN"):
        cells = cells_of(results, "cooperative", head)
        for name in names:
            patients = dice_by_patient(folder, name, head)
            assert cells[name].mean == pytest.approx(mean(patients))
            assert cells[name].sd_patients == pytest.approx(stdev(patients))
            assert (cells[name].spread, cells[name].n) == (None, 6)
            assert cells[name].hd95 == 4  # only the LV could be measured
        both = mean(mean(dice_by_patient(folder, name, head)) for name in ("RandBias", "RandSpike"))
        assert cells["average corrupted"].mean == pytest.approx(both)


def test_failures(make_run: Maker, make_evaluation: Maker) -> None:
    run = make_run("a")
    make_evaluation(run, scores=lambda dataset, patient, head: 0.49 if patient in ("p1", "p2") else 0.5)
    cells = cells_of(table_of([run]), "cooperative", "FTN")
    assert cells["ACDC"].failures["0.5"] == pytest.approx(2 / 6)


def test_runs_of_one_name_are_pooled(make_run: Maker, make_evaluation: Maker) -> None:
    folders = [make_run(f"r{seed}", seed=seed) for seed in range(3)]
    evaluations = [make_evaluation(folder) for folder in folders]
    cells = cells_of(table_of(folders), "cooperative", "FTN+STN")
    means = [mean(dice_by_patient(folder, "ACDC", "FTN+STN")) for folder in evaluations]
    assert cells["ACDC"].trainings == pytest.approx(means)
    assert (cells["ACDC"].mean, cells["ACDC"].spread) == pytest.approx((mean(means), stdev(means)))
    over = [
        mean(mean(dice_by_patient(folder, name, "FTN+STN")) for name in ("RandBias", "RandSpike"))
        for folder in evaluations
    ]
    average = cells["average corrupted"]
    assert (average.mean, average.spread) == pytest.approx((mean(over), stdev(over)))


def test_runs_of_other_patients_are_of_another_draw(make_run: Maker, make_evaluation: Maker) -> None:
    folders = [make_run(name, method=method) for name in "ab" for method in ("standard", "cooperative")
               if (name, method) in {("a", "standard"), ("b", "cooperative")}]  # fmt: skip
    folders += [make_run("c", method="standard"), make_run("d")]
    for folder in folders:
        make_evaluation(folder)
        if folder.name in "ab":
            record = json.loads((folder / "run.json").read_text())
            record["split"]["train"] = ["t3", "t4"]
            (folder / "run.json").write_text(json.dumps(record))
    results = table_of(folders)
    assert {row.name: row.draws for row in results.rows} == {
        "standard": ("1", "2"),
        "cooperative": ("1", "2"),
    }
    first = next(entry for entry in results.differences if entry.class_ == MEAN)
    assert (first.draws, first.trainings) == (("1", "2"), 2)


def test_what_is_not_there(make_run: Maker, make_evaluation: Maker) -> None:
    whole, single, idle = make_run("a"), make_run("b"), make_run("c", **{"losses.stn": False})
    make_evaluation(whole)
    make_evaluation(single, heads=["FTN"], datasets={"RandBias": "corrupted"})
    results = table_of([f"whole={whole}", f"single={single}", f"idle={idle}"])
    states = {
        (row, head): [cells_of(results, row, head)[column.name].state for column in results.columns]
        for row in ("whole", "single", "idle")
        for head in ("FTN", "FTN+STN")
    }
    no, yes, part = "not evaluated", "value", "incomplete"
    assert states["whole", "FTN"] == [yes] * 8
    assert states["single", "FTN"] == [no, yes, no, no, part, part, part, part]
    assert states["single", "FTN+STN"] == [no] * 8
    assert states["idle", "FTN"] == [no] * 8
    assert states["idle", "FTN+STN"] == ["n/a"] * 8


def test_other_patients_are_noticed(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", seed=1)
    make_evaluation(first)
    make_evaluation(second, patients=("p1", "p9"), datasets={"ACDC": "intra"})
    trained = as_study(read_runs([first, second])).trained
    same = {c.name: same_patients(trained, c) for c in find_columns(trained) if not c.average}
    assert same == {"ACDC": False, "RandBias": True, "RandSpike": True, "Vendor B": True}
