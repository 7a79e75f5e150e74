"""Pages and the list as files: whole, safe from what names say, sorted by what needs a look."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coopseg
from coopseg.measures.function import Cell
from coopseg.measures.remarks import Order, Remark, join_phases, remark_on
from coopseg.pages.series import Volume
from coopseg.pages.write import Beat, Entry, write_patient, write_worklist
from coopseg.scans.types import Scan

NAMES = ("background", "LV")
EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'


def volume(name: str = "p1", phase: str = "", *lines: str) -> Volume:
    data = np.random.default_rng(0).random((20, 16, 3), np.float32)
    labels = np.zeros(data.shape, np.uint8)
    labels[5:9, 4:8] = 1
    return Volume(name, phase, Scan(data, np.diag([1.5, 1.5, 8, 1.0])), labels, remark_on(lines))


def shown(page: Path) -> dict[str, Any]:
    """What the script reads from a page."""
    found = re.search(
        r'<script type="application/json" id="scan">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    return dict(json.loads(found[1]))


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    entry = write_patient(
        page, EVIL, [volume(EVIL, "", EVIL)], names=("background", EVIL), provenance=[(EVIL, EVIL)],
        measures={EVIL: Cell(EVIL, EVIL)}, beside=[EVIL],
    )  # fmt: skip
    write_worklist(tmp_path / "index.html", [entry], title=EVIL, failed=[EVIL])
    for file in tmp_path.glob("*.html"):
        text = file.read_text()
        assert "<img" not in text
        assert text.count("<script") == (2 if file == page else 0)  # the data and the viewer
    assert [series["name"] for series in shown(page)["series"]] == [EVIL]


def test_volumes_of_a_patient_are_joined_by_grid(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    other = volume("p1_ES", "ES")
    moved = Volume(other.name, "ES", Scan(other.scan.data, other.scan.affine + 9), other.labels)
    write_patient(page, "p1", [volume("p1_ED", "ED"), other], names=NAMES)
    assert [len(series["phases"]) for series in shown(page)["series"]] == [2]
    entry = write_patient(page, "p1", [volume("p1_ED", "ED", "empty"), moved], names=NAMES)
    assert [len(series["phases"]) for series in shown(page)["series"]] == [1, 1]
    assert entry.warnings == ("p1_ED: empty",)


def test_the_page_names_ed_and_es(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    moved = volume("p1_ES", "ES")
    moved = Volume(moved.name, "ES", Scan(moved.scan.data, moved.scan.affine + 9), moved.labels)
    write_patient(page, "p1", [volume("p1_ED", "ED"), moved], names=NAMES, beat=Beat(0, 1, "as named"))
    assert [(m["series"], m["phase"]) for m in shown(page)["marks"]] == [(0, 0), (1, 0)]
    assert "ED: p1_ED; ES: p1_ES (as named)." in page.read_text()
    data, labels = (np.stack([array] * 4, -1) for array in (moved.scan.data, moved.labels))
    cine = Volume("p1", "", Scan(data, moved.scan.affine), labels)
    write_patient(page, "p1", [cine], names=NAMES, beat=Beat(3, 1))
    assert "ED: phase 4; ES: phase 2." in page.read_text()
    assert shown(page)["start"]["phase"] == 3
    write_patient(page, "p1", [cine], names=NAMES)
    assert shown(page)["marks"] == []
    assert "end diastole" not in page.read_text()


def test_the_list_begins_with_what_needs_a_look(tmp_path: Path) -> None:
    entries = [
        Entry("a", "a.html"),
        Entry(
            "b",
            "b.html",
            ("one", "two"),
            kinds=2,
            phases=(3, 30),
            values={"LV EF": Cell("55 %"), "RV EF": Cell("–", "RV: empty at ES")},
        ),
        Entry("c", "c.html", ("x",), kinds=1, phases=(1, 2)),
        Entry("d", "d.html", ("y",), missing=1, kinds=1, phases=(1, 30)),
        Entry("e", "e.html", ("z",), kinds=1, phases=(20, 30)),
        Entry("f", "f.html", ("u", "v", "w"), doubted=1, expected=0.6, kinds=3),
        Entry("g", "g.html", ("u",), doubted=1, expected=0.5, kinds=1),
    ]
    text = write_worklist(
        tmp_path / "index.html", entries, title="3 patients", failed=["d: unreadable"]
    ).read_text()
    assert re.findall(r'<a href="(.)\.html">', text) == ["d", "g", "f", "b", "e", "c", "a"]
    assert "2 kinds in 3 of 30 phases: one" in text
    assert "First come patients of whom a structure was not found" in text
    columns = re.findall(r'<th scope="col">(.*?)</th>', text)
    assert columns == ["Patient", "To look at", "LV EF", "RV EF"]
    assert text.count('<abbr title="not measured">–</abbr>') == 2 * 6
    assert text.count('<abbr title="RV: empty at ES">–</abbr>') == 1
    assert "d: unreadable" in text
    assert "not a medical device" in text


def test_a_long_cine_does_not_come_first_for_its_length(tmp_path: Path) -> None:
    cine, other = volume(), volume("p1_ES", "ES", "RV: 9 pieces", "RV: 7 pieces")
    data, labels = (np.stack([array] * 30, -1) for array in (cine.scan.data, cine.labels))
    remarks = join_phases([remark_on([f"RV: {number} pieces"]) for number in range(30)])
    lost = join_phases([()] * 29 + [(Remark("LV: not found", "no LV", order=Order.NOT_FOUND),)])
    cine = Volume("p1", "", Scan(data, cine.scan.affine), labels, remarks + lost)
    one = write_patient(tmp_path / "a.html", "a", [cine], names=NAMES, notes=remark_on(["LV and RV differ"]))
    assert (one.missing, one.kinds, one.phases) == (1, 3, (30, 30))
    assert one.warnings == (
        "LV: not found (phase 30 of 30)",
        "RV: 0 pieces (phases 1 to 30 of 30)",
        "LV and RV differ",
    )
    assert "<h2>To look at</h2>" in (tmp_path / "a.html").read_text()
    two = write_patient(tmp_path / "b.html", "b", [volume("p1_ED", "ED", "RV: 2 pieces"), other], names=NAMES)
    assert (two.missing, two.kinds, two.phases) == (0, 1, (0, 2))
    assert two.warnings == ("p1_ED: RV: 2 pieces", "p1_ES: RV: 9 pieces", "p1_ES: RV: 7 pieces")


def test_the_worst_comes_first_and_what_was_mended_last(tmp_path: Path) -> None:
    given = [("mended", Order.MENDED), ("in pieces", Order.OTHER), ("apart", Order.DISAGREE)]
    given += [("not found", Order.NOT_FOUND), ("no EF", Order.NO_NUMBER)]
    remarks = tuple(Remark(text, text, order=order) for text, order in given)
    scan = replace(volume(), remarks=remarks[:2])
    entry = write_patient(tmp_path / "a.html", "a", [scan], names=NAMES, notes=remarks[2:])
    assert entry.warnings == ("no EF", "not found", "apart", "in pieces", "mended")


def test_notes_on_the_slices_stand_beside_the_numbers(tmp_path: Path) -> None:
    page, line = tmp_path / "a.html", "ED: LV in 8 of 10 slices (3 to 10)"
    values = {"LV EF": Cell("55 %"), "RV EF": Cell("–", "RV: empty at ES")}
    entry = write_patient(page, "a", [volume()], names=NAMES, measures=values, beside=[line])
    _, _, measures = page.read_text().partition("<h2>Measures</h2>")
    assert line in measures.partition("<h2>Volumes</h2>")[0]
    assert "– <small>RV: empty at ES</small>" in measures
    assert entry.warnings == ()


@pytest.fixture(scope="module")
def run(phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    tiny = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}
    return coopseg.train(
        phantom["acdc"],
        tmp_path_factory.mktemp("trained") / "run",
        preset="quick",
        settings=tiny,
        device="cpu",
    )


def test_predict_writes_a_page_for_each_patient(run: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "a b#1"
    folder.mkdir()
    for patient in ("patientP001", "patientP002"):
        for file in (phantom["acdc"] / patient).glob("*frame??.nii.gz"):
            (folder / patient).mkdir(exist_ok=True)
            (folder / patient / file.name).write_bytes(file.read_bytes())
    (folder / "patientP002" / "broken.nii.gz").write_bytes(b"no scan")
    out = tmp_path / "out"
    with pytest.raises(coopseg.CoopsegError):
        coopseg.predict(run, folder, out, device="cpu", page=True)
    pages = sorted(file.relative_to(out).as_posix() for file in out.rglob("*.html"))
    assert pages == ["index.html", "patientP001/patientP001.html", "patientP002/patientP002.html"]
    index = (out / "index.html").read_text()
    assert 'href="patientP001/patientP001.html"' in index
    assert "broken.nii.gz" in index
    assert [len(series["phases"]) for series in shown(out / pages[1])["series"]] == [2]
    assert re.search("ED: (LV in|no LV in) ", (out / pages[1]).read_text())
    assert {mark["phase"] for mark in shown(out / pages[1])["marks"]} == {0, 1}  # ED and ES
    assert 'href="../index.html"' in (out / pages[1]).read_text()


def test_a_patient_has_one_name_everywhere(run: Path, phantom: dict[str, Path], tmp_path: Path) -> None:
    """M&Ms' file A_sa.nii.gz is of patient A; two patients of one name have their folders before it."""
    for folder in "xy":
        (tmp_path / "scans" / folder).mkdir(parents=True)
        file = next((phantom["acdc"] / "patientP001").glob("*frame01.nii.gz"))
        (tmp_path / "scans" / folder / "a_ED.nii.gz").write_bytes(file.read_bytes())
    mnms = sorted(phantom["mnms"].rglob("*_sa.nii.gz"))[0]
    for number, scans in enumerate([[mnms], [tmp_path / "scans"]]):
        out = tmp_path / str(number)
        coopseg.predict(run, scans, out, device="cpu", page=True)
        table = (out / "measures.csv").read_text(encoding="utf-8").splitlines()
        names = [row["patient"] for row in csv.DictReader(table)]
        pages = sorted(page for page in out.rglob("*.html") if page.name != "index.html")
        listed = re.findall(r'<th scope="row"><a href=".*?">(.*?)</a>', (out / "index.html").read_text())
        assert listed == names
        assert [re.findall("<h1>(.*?)</h1>", page.read_text())[0] for page in pages] == names
        assert [page.stem for page in pages] == [name.rpartition("/")[2] for name in names]
    assert names == ["x/a", "y/a"]
