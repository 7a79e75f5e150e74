"""The queue: jobs in order, where each stands, and that nothing is left of any."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import Toy, eventually

from coopseg.serve.jobs import MOST_WAITING, Job, Jobs, pack_results
from coopseg.serve.places import Refused
from coopseg.serve.worker import BUG


@pytest.fixture
def jobs(tmp_path: Path, toy: Toy) -> Iterator[Jobs]:
    made = Jobs(tmp_path, toy, keep=3600)
    yield made
    made.close()
    assert list(tmp_path.iterdir()) == []


def begin(jobs: Jobs, *names: str) -> Job:
    job = jobs.begin()
    for name in names:
        (job.scans / name).write_bytes(name.encode())
    jobs.enqueue(job)
    return job


def wait(job: Job, *states: str) -> None:
    eventually(lambda: job.state in states)


def test_in_order_with_places_and_progress(jobs: Jobs, toy: Toy) -> None:
    toy.gate.clear()
    first = begin(jobs, "a.nii", "b.nii")
    toy.running.wait()
    early = jobs.begin()  # sent slowly: those that are whole before it go first
    second, third = begin(jobs, "c.nii"), begin(jobs, "d.nii")
    jobs.enqueue(early)
    assert jobs.describe(first) == {"state": "running", "segmented": 0, "total": 0, "line": ""}
    assert [jobs.describe(job)["place"] for job in (second, third, early)] == [1, 2, 3]
    toy.gate.set()
    wait(early, "done")
    assert toy.seen == [["a.nii", "b.nii"], ["c.nii"], ["d.nii"], []]
    said = jobs.describe(first)
    assert 3590 < said.pop("seconds_left") <= 3600
    assert said == {
        "state": "done", "segmented": 2, "total": 2, "line": "", "page": "index.html", "patients": 2,
        "files": ["labels", "measures"], "warnings": (),
    }  # fmt: skip
    assert (jobs.describe(second)["page"], jobs.describe(second)["patients"]) == ("c.html", 1)
    assert not first.scans.exists()


def test_ids_cannot_be_guessed(jobs: Jobs) -> None:
    ids = {jobs.begin().id for _ in range(MOST_WAITING)}
    assert len(ids) == MOST_WAITING
    assert min(map(len, ids)) >= 43  # 256 bits
    assert not any(name in str(path) for name in ids for path in jobs.folder.rglob("*"))


def test_too_many_are_refused_until_one_is_gone(jobs: Jobs) -> None:
    first, *_ = [jobs.begin() for _ in range(MOST_WAITING)]
    with pytest.raises(Refused, match="20 jobs wait already; try again in some minutes") as refused:
        jobs.begin()
    assert refused.value.status == 503
    jobs.remove(first)
    jobs.begin()


def test_failures_are_one_line_and_the_next_goes_on(
    jobs: Jobs, toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, bug, full, good = (
        begin(jobs, name) for name in ("damaged.nii", "bug_smith.nii", "index.html", "a.nii")
    )
    (full.folder / "out").mkdir()
    wait(good, "done")
    assert (damaged.state, damaged.said.line) == ("failed", "damaged.nii: damaged gzip file; copy it again")
    assert (bug.state, bug.said.line) == ("failed", BUG)
    assert full.state == "failed"
    assert full.said.line.startswith("the disk of the service cannot be written (")
    assert not any(job.scans.exists() for job in (damaged, bug, full))
    assert "KeyError" in caplog.text
    assert "smith" not in caplog.text


def test_removing_in_every_state(jobs: Jobs, toy: Toy) -> None:
    done = begin(jobs, "a.nii")
    wait(done, "done")
    toy.gate.clear()
    toy.running.clear()
    running, waiting, last = begin(jobs, "b.nii"), begin(jobs, "c.nii"), begin(jobs, "d.nii")
    toy.running.wait()
    for job in (done, waiting, running, running):
        jobs.remove(job)
        with pytest.raises(Refused, match="there is no such job") as refused:
            jobs.find(job.id)
        assert refused.value.status == 404
    toy.gate.set()
    wait(last, "done")
    assert toy.seen == [["a.nii"], ["b.nii"], ["d.nii"]]
    assert [path.name for path in jobs.folder.iterdir()] == [last.folder.name]


def test_ended_jobs_are_removed_when_their_time_is_up(tmp_path: Path, toy: Toy) -> None:
    jobs = Jobs(tmp_path, toy, keep=0.3)
    done, sending = begin(jobs, "a.nii"), jobs.begin()
    wait(done, "done")
    assert jobs.find(done.id) is done
    eventually(lambda: not done.folder.exists())
    assert time.monotonic() - done.ended >= 0.3
    assert jobs.find(sending.id) is sending
    jobs.close()
    assert list(tmp_path.iterdir()) == []


def test_the_end_stops_what_runs(tmp_path: Path, toy: Toy) -> None:
    toy.gate.clear()
    jobs = Jobs(tmp_path, toy, keep=60)
    begin(jobs, "a.nii"), begin(jobs, "b.nii"), jobs.begin()
    toy.running.wait()
    jobs.close()
    assert toy.seen == [["a.nii"]]
    assert list(tmp_path.iterdir()) == []


def test_the_zips_hold_what_their_names_say(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "dicom" / "a").mkdir(parents=True)
    wanted = {"label-maps.zip": ("a/x.nii.gz", "labels.json"), "dicom.zip": ("dicom/a/x_seg.dcm",)}
    left_out = "predict.json", "done.jsonl", ".lock", "index.html", "a/x.html"
    for name in (*wanted["label-maps.zip"], *wanted["dicom.zip"], *left_out):
        (out / name).write_text(name)
    pack_results(out, tmp_path)
    for file, names in wanted.items():
        with zipfile.ZipFile(tmp_path / file) as packed:
            found = {name: packed.read(name).decode() for name in packed.namelist()}
        assert found == {name: name for name in names}
