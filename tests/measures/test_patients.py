"""Which label maps are one patient's, which phases they show, and what ACDC and M&Ms know of them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hearts import STACK, rings

from coopseg.errors import CoopsegError, PartlyDone
from coopseg.measures.write import DISCLAIMER, RECORD, TABLE, measure
from coopseg.scans.layouts.cardiac import find_examination
from coopseg.scans.nifti import read_labels, write_image

WORDS = "LV=1,MYO=2,RV=3"


def draw(path: Path, *cavities: int, values: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
    """A label map of one phase for each radius of the cavity; 4-D if there are several."""
    phases = [np.array(values)[rings(cavity=cavity)] for cavity in cavities]
    write_image(path, np.stack(phases, -1) if len(phases) > 1 else phases[0], affine=STACK, dtype=np.uint8)
    return path


def table(out: Path) -> list[dict[str, str]]:
    with open(out / TABLE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fraction(full: int, left: int) -> float:
    sizes = [int((rings(cavity=cavity) == 1).sum()) for cavity in (full, left)]
    return 100 * (sizes[0] - sizes[1]) / sizes[0]


def test_phases_by_name_by_frames_and_by_a_cine(tmp_path: Path) -> None:
    for name, cavities in {
        "a_ED": (6,), "a_ES": (4,),
        "b_frame01": (6,), "b_frame07": (3,), "b_frame04": (5,),
        "c": (5, 6, 4),
        "d": (5,),
        "sub-1_ses-1_ED": (5,), "sub-1_ses-2_ED": (6,),
    }.items():  # fmt: skip
        draw(tmp_path / "maps" / f"{name}.nii.gz", *cavities)
    patients = measure(tmp_path / "maps", tmp_path / "out", labels=WORDS)
    rows = {(row["patient"], row["session"]): row for row in table(tmp_path / "out")}
    assert list(rows) == [("a", ""), ("b", ""), ("c", ""), ("d", ""), ("sub-1", "ses-1"), ("sub-1", "ses-2")]
    assert [len(patient.frames) for patient in patients] == [2, 3, 3, 1, 1, 1]
    a, b, c, d = (rows[name, ""] for name in "abcd")
    assert (a["ed"], a["es"], a["phases_by"]) == ("a_ED", "a_ES", "given")
    assert float(a["lv_ef_percent"]) == pytest.approx(fraction(6, 4), abs=0.05)
    assert (b["ed"], b["es"], b["phases_by"]) == ("b_frame01", "b_frame07", "LV volume")
    assert float(b["lv_ef_percent"]) == pytest.approx(fraction(6, 3), abs=0.05)
    assert (c["ed"], c["es"]) == ("c, phase 2", "c, phase 3")
    assert (d["lv_edv_ml"], d["lv_ef_percent"]) == ("", "")
    assert float(d["LV_ml"]) == pytest.approx((rings(cavity=5) == 1).sum() * 0.018, abs=0.05)
    assert "there is one phase and nothing says which" in d["notes"]
    assert "LV_ml" not in d["notes"]
    assert c["notes"].endswith(
        "LV_ml, MYO_ml, RV_ml are for patients with one phase; the volumes of its 3 are in measures.json"
    )
    assert all(re.fullmatch(r"\d+\.\d", a[column]) for column in ("lv_edv_ml", "lv_ef_percent", "lv_mass_g"))
    assert rows["sub-1", "ses-1"]["notes"].startswith("no ES")
    assert all(row["disclaimer"] == DISCLAIMER for row in rows.values())
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["disclaimer"] == DISCLAIMER
    assert record["structures"] == ["LV", "MYO", "RV"]
    (third,) = [entry for entry in record["patients"] if entry["patient"] == "c"]
    assert [phase["voxels"]["LV"] for phase in third["phases"]] == [
        int((rings(cavity=cavity) == 1).sum()) for cavity in (5, 6, 4)
    ]
    assert third["measures"]["lv_ef_percent"] == pytest.approx(fraction(6, 4))


def test_label_maps_are_mended_before_they_are_measured(coopseg: Callable[..., Any], tmp_path: Path) -> None:
    whole = np.array((0, 7, 4, 9))[rings(cavity=6)]
    broken = whole.copy()
    broken[0, 0, 1], broken[23, 23, 5], broken[12, 12, 2] = 7, 2, 0  # 2 has no name
    maps, out = tmp_path / "maps", tmp_path / "out"
    for name, labels in (("a_ED", broken), ("b/a_ED", whole)):
        write_image(maps / f"{name}.nii.gz", labels, affine=STACK, dtype=np.uint8)
    done = coopseg("measure", maps, "--labels", "LV=7,MYO=4,RV=9", "--anatomy", "--out", out)
    assert done.exit_code == 0, done.stderr
    assert "removed 1 loose piece of LV, less than 0.1 ml; filled holes in LV" in done.stderr
    expected = whole.copy()
    expected[23, 23, 5] = 2
    assert np.array_equal(read_labels(out / "a_ED.nii.gz").data, expected)
    assert np.array_equal(read_labels(out / "b" / "a_ED.nii.gz").data, whole)
    one, other = table(out)
    assert one["lv_edv_ml"] == other["lv_edv_ml"] == f"{(whole == 7).sum() * 0.018:.1f}"
    assert "anatomy: removed 1 loose piece of LV" in one["notes"]
    assert "anatomy" not in other["notes"]


def test_a_table_of_beats_alone_has_no_columns_for_one_phase(tmp_path: Path) -> None:
    draw(tmp_path / "maps" / "c.nii.gz", 5, 6, 4)
    measure(tmp_path / "maps", tmp_path / "out", labels=WORDS)
    (row,) = table(tmp_path / "out")
    assert not {"LV_ml", "MYO_ml", "RV_ml"} & set(row)
    assert "measures.json" not in row["notes"]
    assert "no height and weight, so nothing by body surface" in row["notes"]


def write_acdc(folder: Path, *, height: str = "180.0", weight: str = "80.0") -> Path:
    """A patient whose 12th frame is ES, with images beside the label maps and the whole cine."""
    for number, cavity in ((1, 6), (12, 4)):
        draw(folder / f"patient009_frame{number:02d}_gt.nii.gz", cavity, values=(0, 3, 2, 1))
        write_image(folder / f"patient009_frame{number:02d}.nii.gz", np.full((9, 9, 3), 0.5), affine=STACK)
    (folder / "Info.cfg").write_text(f"ED: 1\nES: 12\nGroup: NOR\nHeight: {height}\nWeight: {weight}\n")
    return folder


def test_acdc_says_phases_values_and_the_body(tmp_path: Path) -> None:
    folder = write_acdc(tmp_path / "acdc" / "patient009")
    (patient,) = measure(tmp_path / "acdc", tmp_path / "out")
    values = patient.measured.values
    assert (values["ed"], values["es"]) == ("patient009_frame01", "patient009_frame12")
    assert values["bsa_m2"] == 2.0
    expected = int((rings(cavity=6) == 1).sum()) * 0.018
    assert values["lv_edv_ml"] == pytest.approx(expected)
    assert values["lv_edvi_ml_per_m2"] == pytest.approx(expected / 2)
    found = find_examination(folder / "patient009_frame01.nii.gz")
    assert found is not None
    assert (found.patient, found.ed, found.es, found.height_cm, found.weight_kg) == (
        "patient009", 0, 11, 180.0, 80.0,
    )  # fmt: skip


@pytest.mark.parametrize("given", ["0", "", "tall", "nan", "-3", "inf"])
def test_a_height_that_is_none(tmp_path: Path, given: str) -> None:
    write_acdc(tmp_path / "acdc" / "patient009", height=given)
    (patient,) = measure(tmp_path / "acdc", tmp_path / "out")
    assert patient.measured.values["bsa_m2"] is None
    assert "no height, so nothing by body surface" in patient.measured.notes


def test_a_damaged_info_is_said_and_the_curve_is_taken(tmp_path: Path) -> None:
    folder = write_acdc(tmp_path / "acdc" / "patient009")
    (folder / "Info.cfg").write_text("ED: one\n")
    (patient,) = measure(tmp_path / "acdc", tmp_path / "out", labels="LV=3,MYO=2,RV=1")
    assert patient.measured.values["phases_by"] == "LV volume"
    assert 'Info.cfg: no line "ED: <frame number>"' in patient.measured.lines[0]


def write_mnms(root: Path) -> Path:
    folder = root / "Training" / "Labeled" / "A1B2C3"
    draw(folder / "A1B2C3_sa_gt.nii.gz", 5, 4, 6)
    header = "External code,VendorName,Vendor,Centre,ED,ES,Height,Weight"
    (root / "info.csv").write_text(f"{header}\nA1B2C3,Siemens,A,1,0,1,180,80\n")
    return folder / "A1B2C3_sa_gt.nii.gz"


def test_mnms_says_phases_values_and_the_body(tmp_path: Path) -> None:
    file = write_mnms(tmp_path / "mnms")
    (patient,) = measure(file, tmp_path / "out")
    values = patient.measured.values
    assert patient.name == "A1B2C3"
    assert (values["ed"], values["es"], values["phases_by"]) == (
        "A1B2C3_sa, phase 1", "A1B2C3_sa, phase 2", "given",
    )  # fmt: skip
    assert values["bsa_m2"] == 2.0
    assert find_examination(file.with_name("other_sa.nii.gz")) is None
    assert find_examination(Path("no/Training/Labeled/X/X_sa.nii.gz")) is None


def test_heights_and_weights_from_a_table(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        draw(tmp_path / "maps" / f"{name}_ED.nii.gz", 6)
    body = tmp_path / "body.csv"
    body.write_text("age,patient,weight_kg,height_cm\n50,a,80,180\n51,b,,170\n", encoding="utf-8-sig")
    patients = measure(tmp_path / "maps", tmp_path / "out", labels=WORDS, body=body)
    assert [patient.measured.values["bsa_m2"] for patient in patients] == [2.0, None, None]
    assert "no weight, so nothing by body surface" in patients[1].measured.notes
    assert patients[2].measured.lines[0] == "not in the table of heights and weights"
    for text, said in (
        ("patient,height_cm\na,180\n", "not one column weight_kg; call the columns patient, height_cm"),
        ("patient,height_cm,weight_kg\na,tall,80\n", "height_cm of 'a' is 'tall'; write a number"),
        ("patient,height_cm,weight_kg\na,180,inf\n", "weight_kg of 'a' is 'inf'; write a number"),
        ("patient,height_cm,weight_kg\na,1,2\na,1,2\n", "patient 'a' is there twice"),
        ("", "cannot be read as CSV"),
    ):
        body.write_text(text)
        with pytest.raises(CoopsegError, match=said):
            measure(tmp_path / "maps", tmp_path / "none", labels=WORDS, body=body)


@pytest.mark.parametrize("where", ["maps", "maps/deep", "."])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", {"labels": [{"value": 1, "name": "LV"}, {"value": 2, "name": "MYO"}]}),
        ("dataset.json", {"labels": {"left ventricle": 1, "myocardium": 2}}),
    ],
)
def test_names_beside_the_label_maps(tmp_path: Path, where: str, name: str, content: dict[str, Any]) -> None:
    for phase, cavity in (("ED", 6), ("ES", 4)):
        draw(tmp_path / "maps" / "deep" / f"p_{phase}.nii.gz", cavity, values=(0, 1, 2, 0))
    (tmp_path / where / name).write_text(json.dumps(content))
    (patient,) = measure(tmp_path / "maps", tmp_path / "out")
    assert patient.measured.values["lv_ef_percent"] == pytest.approx(fraction(6, 4))
    assert "rv_ef_percent" not in patient.measured.values


def test_what_is_left_out_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    draw(maps / "a_ED.nii.gz", 6)
    draw(maps / "a_ES.nii.gz", 4)
    draw(maps / "b_ED.nii.gz", 6)
    (maps / "b_ES.nii.gz").write_bytes(b"no NIfTI file")
    with pytest.raises(PartlyDone, match=r"1 of 2 scans failed.*then measure again") as raised:
        measure(maps, tmp_path / "out", labels=WORDS)
    assert [patient.name for patient in raised.value.done] == ["a"]
    assert "b_ES.nii.gz" in str(raised.value.failed[0])
    assert [row["patient"] for row in table(tmp_path / "out")] == ["a"]
    with pytest.raises(CoopsegError, match=r"b_ES\.nii\.gz.*not a NIfTI"):
        measure(maps / "b_ES.nii.gz", tmp_path / "other", labels=WORDS)
    assert not (tmp_path / "other").exists()


def test_slices_along_an_axis_that_is_named(coopseg: Callable[..., Any], tmp_path: Path) -> None:
    labels = np.moveaxis(rings(7), 2, 0)  # voxels with equal sides: nothing says along which axis
    write_image(tmp_path / "maps" / "a_ED.nii.gz", labels, affine=np.diag([2, 2, 2, 1.0]), dtype=np.uint8)
    for axis, slices in (("auto", "11 of 24 slices"), ("0", "7 of 7 slices")):
        out = tmp_path / axis
        given = "--labels", WORDS, "--slice-axis", axis, "--out", out
        assert coopseg("measure", tmp_path / "maps", *given).exit_code == 0
        assert f"ED: LV in {slices}" in table(out)[0]["notes"]


def test_what_is_refused(tmp_path: Path) -> None:
    file = draw(tmp_path / "maps" / "a_ED.nii.gz", 6)
    with pytest.raises(CoopsegError, match="nothing says what its values mean; name them, as --labels LV=1"):
        measure(file, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CoopsegError, match="no label map found"):
        measure(tmp_path / "empty", tmp_path / "out", labels=WORDS)
    draw(tmp_path / "maps" / "a_ed.nii", 4)
    with pytest.raises(CoopsegError, match="ED of a is there twice"):
        measure(tmp_path / "maps", tmp_path / "out", labels=WORDS)
    assert not (tmp_path / "out").exists()


def test_values_that_are_not_named_are_background_where_names_are_given(tmp_path: Path) -> None:
    file = draw(tmp_path / "maps" / "a_ED.nii.gz", 6)
    (patient,) = measure(file, tmp_path / "out", labels="LV=1")
    assert patient.frames[0].voxels == {"LV": int((rings(cavity=6) == 1).sum())}
    assert "--labels does not name 2, 3, taken as background" in patient.measured.lines


def test_patients_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        draw(tmp_path / "maps" / folder / "scan_ED.nii.gz", 6)
        draw(tmp_path / "maps" / folder / "scan_ES.nii.gz", 4)
    patients = measure(tmp_path / "maps", tmp_path / "out", labels=WORDS)
    assert [patient.name for patient in patients] == ["x/scan", "y/scan"]
    assert all(len(patient.frames) == 2 for patient in patients)


def test_a_name_that_a_spreadsheet_would_compute(tmp_path: Path) -> None:
    draw(tmp_path / "maps" / "=1+1_ED.nii.gz", 6)
    measure(tmp_path / "maps", tmp_path / "out", labels=WORDS)
    assert table(tmp_path / "out")[0]["patient"] == "'=1+1"


def test_the_phantoms_volumes(phantom: dict[str, Path], tmp_path: Path) -> None:
    """Sums of discs 10 mm apart come near the true volumes, and fractions nearer."""
    for name, folder in phantom.items():
        with open(folder / "volumes.csv", encoding="utf-8") as file:
            truth = {(row["patient"], row["phase"]): row for row in csv.DictReader(file)}
        patients = measure(folder, tmp_path / name)
        assert len(patients) == 6
        for patient in patients:
            values, ed, es = patient.measured.values, truth[patient.name, "ED"], truth[patient.name, "ES"]
            for column, true in (
                ("lv_edv_ml", ed["lv_ml"]), ("lv_esv_ml", es["lv_ml"]), ("rv_edv_ml", ed["rv_ml"]),
                ("lv_mass_g", ed["myocardium_g"]),
            ):  # fmt: skip
                assert values[column] == pytest.approx(float(true), rel=0.15, abs=6)
            assert values["lv_ef_percent"] == pytest.approx(100 * float(ed["lv_ef"]), abs=6)


def test_the_verb(coopseg: Callable[..., Any], tmp_path: Path) -> None:
    draw(tmp_path / "maps" / "a_ED.nii.gz", 5)
    draw(tmp_path / "maps" / "a_ES.nii.gz", 4)
    out = tmp_path / "out"
    done = coopseg("measure", tmp_path / "maps", "--out", out, "--labels", WORDS, "--spacing", "nominal")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"1 patient measured: {out / TABLE}\n"
    assert done.stderr == (
        "a: the spacing is not the true one, so there are ratios but no volumes\n"
        "a: stroke volumes of LV and RV differ by 100 %; without regurgitation or shunt they are equal, so "
        "look at both outlines at ED and at ES\n"
    )
    (row,) = table(out)
    assert (row["lv_edv_ml"], row["lv_mass_g"], row["bsa_m2"]) == ("", "", "")
    assert float(row["lv_ef_percent"]) == pytest.approx(fraction(5, 4), abs=0.05)
    (tmp_path / "maps" / "b.nii.gz").write_bytes(b"")
    done = coopseg("measure", tmp_path / "maps", "--out", tmp_path / "again", "--labels", WORDS)
    assert done.exit_code == 1
    assert "b.nii.gz: the file is empty" in done.stderr


@pytest.mark.real
def test_fractions_of_the_experts_labels(real_data: Path, tmp_path: Path) -> None:
    """A sanity check on ratios alone, since the spacing of these copies is not the true one."""
    for name, least in (("acdc", 80), ("mnms", 24)):
        patients = measure(real_data / name, tmp_path / name, spacing="nominal")
        assert len(patients) == least
        fractions = [patient.measured.values["lv_ef_percent"] for patient in patients]
        known = [value for value in fractions if isinstance(value, float)]
        assert len(known) == least
        assert all(5 < value < 90 for value in known)
        assert 30 < np.mean(known) < 65
        assert all(patient.measured.values["lv_edv_ml"] is None for patient in patients)
