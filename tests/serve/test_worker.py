"""The process that segments: what it says, and that it can be ended and begins anew."""

from __future__ import annotations

import shutil
import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.nifti import read_image
from coopseg.serve.worker import BUG, ENDED, How, Ready, Said, Worker, attend, segment


@pytest.fixture
def scans(phantom: dict[str, Path], tmp_path: Path) -> Path:
    """Two scans of one patient, as they would have been sent."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for file in (phantom["acdc"] / "patientP001").glob("*_frame??.nii.gz"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_scans_become_pages_and_label_maps(model: Path, scans: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = segment(How(model, "cpu"), scans, tmp_path / "out", lambda *each: told.append(each))
    state, said = done
    assert (state, said.line) == ("done", "")
    assert said.warnings
    assert all(line.startswith("patientP001") for line in said.warnings)
    assert str(tmp_path) not in "".join(said.warnings)
    assert told == [(1, 2), (2, 2)]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {path.name for path in scans.iterdir()} | {
        "patientP001.html",
        "index.html",
        "labels.json",
    } <= names
    measures = (tmp_path / "out" / "measures.json").read_text()
    assert "patientP001_frame01.nii.gz" in measures
    assert str(tmp_path) not in measures


def test_what_failed_is_named_without_the_folder_of_the_service(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    how = How(model, "cpu")
    (scans / "zz_damaged.nii.gz").write_bytes(b"\x1f\x8b123")
    state, said = segment(how, scans, tmp_path / "out", lambda *_: None)
    assert state == "done"
    assert said.line.startswith("zz_damaged.nii.gz: damaged gzip file")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "zz_damaged.nii.gz: damaged gzip file" in page
    assert str(tmp_path) not in page
    for file in scans.glob("patient*"):
        file.unlink()
    state, said = segment(how, scans, tmp_path / "again", lambda *_: None)
    assert state == "failed"
    assert said.line.startswith("zz_damaged.nii.gz: damaged gzip file")
    (scans / "zz_damaged.nii.gz").rename(scans / "x.txt")
    state, said = segment(how, scans, tmp_path / "again", lambda *_: None)
    assert state == "failed"
    assert said.line.startswith("what was sent: no scan found")


def test_dicom_as_it_is_sent(model: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    """In a zip file of folders: half of the files have no extension."""
    pytest.importorskip("pydicom")
    pytest.importorskip("python_multipart")
    from made_dicom import save, series_per_slice

    from coopseg.serve.places import Places, Room
    from coopseg.serve.upload import unpack

    scan = read_image(next(phantom["mnms"].rglob("*_sa.nii.gz")))
    sent = shutil.make_archive(
        str(tmp_path / "disc"), "zip", save(series_per_slice(scan, patient="Rossi 7"), tmp_path / "study")
    )
    folder = tmp_path / "sent"
    unpack(Path(sent), "disc", Places(folder), Room(2**30, 10_000, "full"))
    state, said = segment(How(model, "cpu"), folder, tmp_path / "out", lambda *_: None)
    assert (state, said.line) == ("done", "")
    made = sorted(path.name for path in (tmp_path / "out" / "dicom").iterdir())
    assert made[0] == "Rossi-7_seg_01.dcm"
    pages = sorted(path.name for path in (tmp_path / "out").rglob("*.html"))
    assert pages == ["Rossi-7.html", "index.html"]
    shutil.copy(next(phantom["mnms"].rglob("*_sa.nii.gz")), folder / "scan.nii.gz")
    state, said = segment(How(model, "cpu"), folder, tmp_path / "again", lambda *_: None)
    assert state == "done"
    assert any(line.endswith("DICOM beside NIfTI, to be given by itself (1)") for line in said.warnings)
    assert not (tmp_path / "again" / "dicom").exists()


@pytest.mark.parametrize(("error", "line"), [(MemoryError(), ENDED), (KeyError("smith"), BUG)])
def test_other_errors_are_one_line(
    error: Exception,
    line: str,
    scans: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("coopseg.inference.predict.predict", fail)
    assert segment(How(Path("m")), scans, scans / "out", lambda *_: None) == ("failed", Said(line))
    assert "smith" not in caplog.text


def test_what_is_said_through_the_pipe(model: Path, scans: Path, tmp_path: Path) -> None:
    """The same as in a process of its own, which no coverage sees."""
    ours, theirs = Pipe()
    thread = threading.Thread(target=attend, args=(theirs, How(model, "cpu")))
    thread.start()
    assert ours.recv() == ("ready", (("RV", "MYO", "LV"), "cpu"))
    ours.send((scans, tmp_path / "out"))
    assert [ours.recv() for _ in range(2)] == [("progress", (1, 2)), ("progress", (2, 2))]
    kind, said = ours.recv()
    assert (kind, said.line) == ("done", "")
    ours.close()
    thread.join()
    ours, theirs = Pipe()
    attend(theirs, How(tmp_path / "none", "cpu"))
    kind, said = ours.recv()
    assert kind == "failed"
    assert "does not exist" in said.line


def test_a_process_that_is_stopped_begins_anew(model: Path, scans: Path, tmp_path: Path) -> None:
    worker = Worker(How(model, "cpu"))
    assert worker.start() == Ready(("RV", "MYO", "LV"), "cpu")
    with pytest.raises(CoopsegError, match="the process that segments has ended"):
        worker.run(scans, tmp_path / "a", lambda *_: worker.stop())  # after the first of two scans
    told: list[tuple[int, int]] = []
    assert worker.run(scans, tmp_path / "b", lambda *each: told.append(each)).line == ""
    assert told == [(1, 2), (2, 2)]
    worker.stop(close=True)
    with pytest.raises(CoopsegError, match="has ended"):
        worker.run(scans, tmp_path / "c", lambda *_: None)


def test_a_model_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    worker = Worker(How(tmp_path / "none", "cpu"))
    with pytest.raises(CoopsegError, match="does not exist; --model takes the folder"):
        worker.start()
    worker.stop()
