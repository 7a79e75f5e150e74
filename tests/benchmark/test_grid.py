"""From a request to jobs: the union of its blocks, each job once, after those that it needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coopseg.benchmark.grid import Job, find_job, levels, make_jobs, notes, probed_rows
from coopseg.benchmark.request import PredictorEntry, Request, check_request, settings_of
from coopseg.errors import CoopsegError


def ask(*blocks: tuple[str, str, str], **more: Any) -> Request:
    """A request of blocks of words."""
    listed = [
        {"methods": methods.split(), "draws": draws.split(), "seeds": [int(seed) for seed in seeds.split()]}
        for methods, draws, seeds in blocks
    ]
    values = {"data": "/d", "split": "acdc-dev", "started": "", "blocks": listed}
    return Request.model_validate(values | more)


def ids(request: Request) -> list[str]:
    return [job.id for job in make_jobs(request)]


def test_a_draw_is_whole_before_the_next_and_no_job_comes_twice() -> None:
    request = ask(("standard cooperative", "A B", "0 1"), ("standard randconv", "A", "0"))
    assert ids(request) == [
        "standard-A-0", "cooperative-A-0", "standard-A-1", "cooperative-A-1",
        "standard-B-0", "cooperative-B-0", "standard-B-1", "cooperative-B-1", "randconv-A-0",
    ]  # fmt: skip
    assert all(job.needs == () for job in make_jobs(request))


def test_names_of_rows_in_names_of_folders() -> None:
    request = ask(("cooperative+randconv my.module:Class", "-", "0"))
    assert ids(request) == ["cooperative+randconv---0", "my.module_Class---0"]


def test_scan_statistics_are_read_from_the_networks_of_their_row() -> None:
    request = ask(("cooperative standard@7 post-dae@off cooperative@0.5", "A", "0"))
    jobs = {job.id: (job.kind, job.needs) for job in make_jobs(request)}
    assert jobs == {
        "cooperative-A-0": ("train", ()),
        "standard-A-0": ("train", ()),
        "standard@7-A-0": ("statistics", ("standard-A-0",)),
        "post-dae-A-0": ("post-dae", ("standard-A-0",)),
        "post-dae@off-A-0": ("statistics", ("post-dae-A-0",)),
        "cooperative@0.5-A-0": ("statistics", ("cooperative-A-0",)),
    }
    assert [len(level) for level in levels(make_jobs(request))] == [2, 3, 1]
    assert probed_rows(request) == ("cooperative",)
    assert len(notes(request)) == 3  # standard, for two rows, and post-dae
    check_request(request)
    assert settings_of(request, "standard@7", seed=0).prediction.scan_statistics == 7
    with pytest.raises(CoopsegError, match="scan statistics 'much' cannot be used"):
        check_request(ask(("standard@much", "A", "0")))


def test_post_dae_brings_what_it_stands_on() -> None:
    request = ask(("post-dae cooperative", "A", "0 1"), ("standard", "A", "1"))
    jobs = {job.id: job for job in make_jobs(request)}
    assert jobs["post-dae-A-0"].needs == ("standard-A-0",)
    assert jobs["post-dae-A-0"].kind == "post-dae"
    assert jobs["standard-A-0"].kind == "train"
    assert len(jobs) == 6
    (note,) = notes(request)
    assert note.startswith("standard, draw A, seed 0: added")
    assert probed_rows(request) == ("cooperative", "standard")


def test_equal_time_is_for_main_rows_but_the_one_that_gives_the_time() -> None:
    request = ask(("standard cooperative rsc", "A", "0"), equal_time=True)
    timed = [job for job in make_jobs(request) if job.budget == "time"]
    assert [(job.id, job.row, job.needs) for job in timed] == [
        ("standard-A-0-equal-time", "standard", ("standard-A-0",))
    ]
    assert probed_rows(ask(("standard", "A", "0"), equal_time=True)) == ("standard", "cooperative")


def test_predictors_are_tested_once() -> None:
    request = ask(("standard", "A B", "0"), predictors=[{"name": "net", "target": "m:f"}])
    job = next(job for job in make_jobs(request) if job.kind == "predictor")
    assert (job.id, job.row, job.draw, job.seed, job.needs) == ("net---0", "net", "-", 0, ())


@pytest.mark.parametrize("more", [{}, {"equal_time": True}])
def test_levels_hold_every_job_once_after_its_needs(more: dict[str, Any]) -> None:
    jobs = make_jobs(ask(("post-dae standard randconv", "A B", "0 1"), **more))
    done: set[str] = set()
    for level in levels(reversed(jobs)):
        assert all(set(job.needs) <= done for job in level)
        assert not done & {job.id for job in level}
        done |= {job.id for job in level}
    assert done == {job.id for job in jobs}


def test_a_job_on_disk(tmp_path: Path) -> None:
    job = Job("a-A-0", "a", "post-dae", "A", 0, needs=("b",))
    job.write(tmp_path)
    stored = json.loads((tmp_path / "jobs" / "a-A-0" / "job.json").read_text())
    assert stored == {
        "id": "a-A-0", "row": "a", "kind": "post-dae", "draw": "A", "seed": 0, "budget": "steps",
        "needs": ["b"],
    }  # fmt: skip


def test_a_job_is_found_by_what_was_asked_for() -> None:
    request = ask(("standard", "A B", "0"))
    assert find_job(request, "standard-B-0") == Job("standard-B-0", "standard", "train", "B", 0)
    with pytest.raises(CoopsegError, match=r"'\.\./standard-B-0': not of this benchmark"):
        find_job(request, "../standard-B-0")


def test_severities_asked_for_later_are_left_to_do(tmp_path: Path) -> None:
    job = Job("rsc-A-0", "rsc", "train", "A", 0)
    plain = ask(("rsc", "A", "0"))
    more = ask(("rsc", "A", "0"), severities=[0.5, 1], severity_methods=["rsc"])
    assert not job.is_finished(tmp_path, plain)
    folder = job.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    assert job.is_finished(tmp_path, plain)
    assert not job.is_finished(tmp_path, more)
    half = folder / "severities" / "0.5"
    half.mkdir(parents=True)
    assert not job.is_finished(tmp_path, more)  # a process that was killed leaves a folder
    (half / "evaluation.json").write_text("{}")
    assert job.is_finished(tmp_path, more)  # severity 1 is what the evaluation itself measures


def test_copies_of_predictors_asked_for_later_are_left_to_do(tmp_path: Path) -> None:
    """Of what was trained here, for as long as there are weights; not at equal time."""
    plain = ask(("rsc", "A", "0"), ("rsc@1", "A", "0"), equal_time=False)
    more = plain.model_copy(update={"predictors": (PredictorEntry(name="net", target="m:f"),)})
    trained, again = make_jobs(plain)
    for job in (trained, again, replace(trained, id="timed", budget="time")):
        folder = job.folder(tmp_path)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
        assert job.is_finished(tmp_path, plain)
        assert job.is_finished(tmp_path, more)  # restored without weights
    (trained.folder(tmp_path) / "training").mkdir()
    (trained.folder(tmp_path) / "training" / "last.safetensors").touch()
    assert replace(trained, id="timed", budget="time").is_finished(tmp_path, more)
    for job in (trained, again):
        assert not job.is_finished(tmp_path, more)
        (job.folder(tmp_path) / "scan-grid").mkdir()
        (job.folder(tmp_path) / "scan-grid" / "evaluation.json").write_text("{}")
        assert job.is_finished(tmp_path, more)
