"""Names and paths in files: nothing outside the data set is read, nothing outside --out is written."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import snapshot  # type: ignore[attr-defined]
from coopseg.cases.collect import cached
from coopseg.cases.prepare import Case, prepare
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError
from coopseg.evaluation.pictures import file_stems
from coopseg.scans.layouts import open_dataset
from coopseg.scans.nifti import read_image
from coopseg.training.run import resume

SMALL = ("--set=cases.size=[16,16]", "--set=cases.spacing=3")
ITEM = {"image": "images/p1.nii.gz", "label": "labels/p1.nii.gz"}


def describe(folder: Path, **content: Any) -> None:
    (folder / "dataset.json").write_text(json.dumps({"labels": {"LV": 1, "MYO": 2, "RV": 3}, **content}))


@pytest.mark.parametrize("name", ["../out.nii.gz", "/etc/passwd", "images/../../out.nii.gz", "//x", ".."])
def test_listed_files_outside_the_data_set(
    refuses: Callable[..., str], data: Path, model: Path, tmp_path: Path, name: str
) -> None:
    shutil.copy(data / "images" / "p1.nii.gz", tmp_path / "out.nii.gz")
    lists = [{key: [{**ITEM, kind: name}]} for key in ("items", "training") for kind in ("image", "label")]
    for content in (*lists, {"training": [], "test": [name]}):
        describe(data, **content)  # type: ignore[arg-type]
        parts = (data / "dataset.json", "outside the data set")
        refuses("train", "--data", data, parts=parts)
        refuses("evaluate", "--model", model, "--data", data, parts=parts)
        refuses("corrupt", "--data", data, parts=parts)


def test_links_within_the_data_set_are_its_owners(data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.nii.gz"
    (data / "images" / "p1.nii.gz").rename(elsewhere)
    (data / "images" / "p1.nii.gz").symlink_to(elsewhere)
    describe(data, items=[ITEM])
    assert read_image(open_dataset(data).items[0].image).data.shape == (16, 16, 2)


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "a/b", "a\\b", "..", ".hidden", "a\0b", "a\nb", "x" * 300, ""]
)
@pytest.mark.parametrize("key", ["patient", "phase"])
def test_patients_that_are_no_file_names(
    refuses: Callable[..., str], data: Path, name: str, key: str
) -> None:
    others = {"patient": ""} if key == "phase" else {}
    describe(data, items=[{**ITEM, **others, key: name}])
    refuses("corrupt", "--data", data, "--workers=1", *SMALL, parts=(data, "cannot be part of a file name"))


def test_a_subject_of_mnms_that_leaves_its_folder(
    refuses: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mnms"
    code = "../../../data/images/x"
    for part in ("Training/Labeled", "Validation", "Testing"):
        (folder / part).mkdir(parents=True)
    (data / "images" / "x").mkdir()
    shutil.copy(data / "images" / "p1.nii.gz", data / "images" / "x" / "x_sa.nii.gz")
    (folder / "t.csv").write_text(f"External code,VendorName,Vendor,Centre,ED,ES\n{code},x,A,1,0,0\n")
    refuses("train", "--data", folder, parts=(folder,))


def test_weird_names_stay_within_the_output(
    coopseg: Callable[..., Any], data: Path, model: Path, tmp_path: Path
) -> None:
    """Names of data sets, patients and sites that no file, formula or table should take at its word."""
    describe(
        data,
        name="../../$\\frac{evil$ | <b>",
        items=[{**ITEM, "patient": "a $x$ [bold] ..", "site": "../x/$"}],
    )
    twin = Path(shutil.copytree(data, tmp_path / "twin"))
    before = snapshot(tmp_path)
    out = tmp_path / "out"
    words = ("--data", data, "--data", f"-.-.-$-frac{{evil$ - -b-={twin}", "--out", out, "--device=cpu")
    result = coopseg("evaluate", "--model", model, *words)
    assert result.exit_code == 0, (result.stderr, result.exception)
    after = snapshot(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"out"}
    assert len(list((out / "pictures").iterdir())) == 2
    result = coopseg("corrupt", "--data", data, "--workers=1", *SMALL, "--out", tmp_path / "more")
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert {name.split("/")[0] for name in snapshot(tmp_path).keys() - after.keys()} == {"more"}


def test_names_for_evaluate_leave_no_folder(
    coopseg: Callable[..., Any], data: Path, model: Path, tmp_path: Path
) -> None:
    before = snapshot(tmp_path)
    words = ("evaluate", "--model", model, "--data", f"..={data}", "--out", tmp_path / "out", "--device=cpu")
    result = coopseg(*words)
    assert result.exit_code == 0, (result.stderr, result.exception)
    new = snapshot(tmp_path).keys() - before.keys()
    assert {name.split("/")[0] for name in new} == {"out"}


def test_pictures_of_different_data_sets_have_different_names() -> None:
    names = ["M&Ms", "M-Ms", "M/Ms", "../..", "x" * 300, "x" * 301, "\u00e9" * 300]
    stems = file_stems(names)
    assert list(stems) == names
    assert len(set(stems.values())) == len(names)
    assert all("/" not in stem and len(f"{stem}_median.png".encode()) < 255 for stem in stems.values())


@pytest.mark.parametrize(
    "content", ["{}", "[]", "{", "\xff", '{"name": "a web app", "icons": []}', "[" * 10**5]
)
def test_overwrite_removes_nothing_but_an_earlier_output(
    refuses: Callable[..., str], data: Path, tmp_path: Path, content: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    (mine / "manifest.json").write_bytes(content.encode("latin-1"))
    refuses("corrupt", "--data", data, "--overwrite", "--workers=1", *SMALL, out=mine, parts=(mine,))


def test_overwrite_does_not_remove_the_data_it_reads(
    coopseg: Callable[..., Any], refuses: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sets"
    words = ("corrupt", "--workers=1", "--copies=1", *SMALL)
    assert coopseg(*words, "--data", data, "--out", out).exit_code == 0
    refuses(*words, "--data", out / "RandBias", "--overwrite", out=out, parts=(out, "holds the data set"))


@pytest.mark.parametrize("verb", ["train", "predict", "corrupt", "evaluate"])
def test_outputs_that_cannot_be_made(
    refuses: Callable[..., str], data: Path, model: Path, tmp_path: Path, verb: str
) -> None:
    words: dict[str, tuple[Any, ...]] = {
        "train": ("--data", data, "--preset=cpu", "--device=cpu", *SMALL),
        "predict": ("--model", model, data / "images" / "p1.nii.gz"),
        "corrupt": ("--data", data, "--workers=1", *SMALL),
        "evaluate": ("--model", model, "--data", data),
    }
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "below", tmp_path / ("x" * 300)):
        refuses(verb, *words[verb], out=out, parts=(out,))


def test_a_scan_whose_name_leaves_no_room(
    refuses: Callable[..., str], data: Path, model: Path, tmp_path: Path
) -> None:
    scan = tmp_path / ("x" * 248 + ".nii.gz")
    shutil.copy(data / "images" / "p1.nii.gz", scan)
    refuses("predict", "--model", model, "--head=both", scan, parts=("x" * 200,))


@pytest.mark.parametrize("kind", ["file", "folder in the place of entries"])
def test_a_cache_that_cannot_be_used(
    refuses: Callable[..., str], data: Path, tmp_path: Path, kind: str
) -> None:
    cache = tmp_path / "cache"
    cache.write_text("mine")
    words = ("train", "--data", data, "--preset=cpu", "--device=cpu", *SMALL, "--cache", cache)
    if kind == "file":
        refuses(*words, parts=(cache, "--cache"))
        return
    (tmp_path / "folder" / "key.case").mkdir(parents=True)
    with pytest.raises(CoopsegError, match="choose another --cache"):
        cached(tmp_path / "folder", "key", lambda: case_of(data))


def case_of(data: Path, patient: str = "p1") -> Case:
    return prepare(read_image(data / "images" / f"{patient}.nii.gz"), CaseSettings(size=(16, 16), spacing=3))


def test_an_entry_in_the_place_of_another_is_not_taken(data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = cached(cache, "first", lambda: case_of(data, "p1"))
    cached(cache, "second", lambda: case_of(data, "p2"))
    shutil.copy(cache / "second.case", cache / "first.case")
    again = cached(cache, "first", lambda: case_of(data, "p1"))
    assert (again.image == first.image).all()
    assert (again.image != case_of(data, "p2").image).any()


@contextmanager
def no_waiting(seconds: int = 20) -> Iterator[None]:
    """Ends what waits for ever."""

    def stop(*_: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


PLACES = {
    "scan": "data/images/p3.nii.gz",
    "label": "data/labels/p3.nii.gz",
    "description": "data/dataset.json",
    "weights": "run/last.safetensors",
    "weights of ONNX": "x.onnx",
    "split": "split.json",
    "Info.cfg": "acdc/patient001/Info.cfg",
}


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_regular_file_is_not_read(
    refuses: Callable[..., str],
    coopseg: Callable[..., Any],
    data: Path,
    model: Path,
    tmp_path: Path,
    kind: str,
    place: str,
) -> None:
    """A pipe has nobody who writes, and /dev/zero no end."""
    bad = tmp_path / PLACES[place]
    bad.parent.mkdir(parents=True, exist_ok=True)
    bad.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(bad)
    else:
        bad.symlink_to("/dev/zero")
    train = ("train", "--preset=cpu", "--device=cpu", *SMALL, "--data", data)
    predict = ("predict", "--device=cpu", data / "images", "--model")
    words: dict[str, tuple[Any, ...]] = {
        "scan": ("predict", "--device=cpu", bad, "--model", model),
        "weights": (*predict, model),
        "weights of ONNX": (*predict, bad),
        "split": (*train, "--split", bad),
        "Info.cfg": (*train[:-1], tmp_path / "acdc"),
    }
    with no_waiting():
        refuses(*words.get(place, train), parts=(bad, "not a regular file"))
        if place == "scan":
            refuses("predict", "--model", model, bad, parts=(bad, "not a regular file"))
            refuses(*train, parts=(bad, "not a regular file"))
            rest = coopseg("evaluate", "--model", model, "--data", data, "--out", tmp_path / "rest")
            assert rest.exit_code == 1, rest.stderr
            assert f"error: {bad}: " in rest.stderr
            assert "not a regular file" in rest.stderr


def test_a_table_that_is_a_pipe_is_no_table(refuses: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "mnms").mkdir()
    os.mkfifo(tmp_path / "mnms" / "a.csv")
    with no_waiting():
        refuses("train", "--data", tmp_path / "mnms", parts=("no data set recognised",))


def test_a_request_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "request.json")
    with no_waiting(), pytest.raises(CoopsegError, match="damaged, it does not say what was trained"):
        resume(tmp_path)


def test_a_file_with_a_hole_is_not_read_to_its_end(data: Path) -> None:
    """A terabyte that takes no room on the disk."""
    scan, description = data / "images" / "p3.nii.gz", data / "dataset.json"
    for path in (scan, description):
        os.truncate(path, 2**40)
    with no_waiting(), pytest.raises(CoopsegError, match=f"{scan}: holds far more than"):
        read_image(scan)
    with no_waiting(), pytest.raises(CoopsegError, match=f"{description}: .*more than {2**28} bytes"):
        open_dataset(data)
