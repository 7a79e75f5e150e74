"""Volumes, ejection fraction and mass of a patient, and what is left empty, with its reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hearts import NAMES, STACK, oblique, rings, shells
from hypothesis import given
from hypothesis import strategies as st

from coopseg.measures.frames import Frame, count_frame
from coopseg.measures.function import (
    UNSCALED,
    Body,
    body_surface,
    columns,
    find_phases,
    in_words,
    measure_patient,
)
from coopseg.measures.remarks import Order

HEART = columns(NAMES)


def frame(lv: int, myo: int = 100, rv: int = 80, *, phase: str = "", ml: float | None = 0.02) -> Frame:
    return Frame(f"{phase or lv}", phase, {"LV": lv, "MYO": myo, "RV": rv}, ml)


def test_the_numbers_of_two_phases() -> None:
    found = measure_patient(
        [frame(5000, 6000, 4500, phase="ED"), frame(2000, 5900, 1800, phase="ES")], NAMES, Body(180, 80)
    )
    values = found.values
    assert {key: values[key] for key in HEART if values[key] is not None} == pytest.approx(
        {
            "ed": "ED", "es": "ES", "phases_by": "given",
            "lv_edv_ml": 100, "lv_esv_ml": 40, "lv_sv_ml": 60, "lv_ef_percent": 60,
            "rv_edv_ml": 90, "rv_esv_ml": 36, "rv_sv_ml": 54, "rv_ef_percent": 60,
            "lv_mass_g": 126, "height_cm": 180, "weight_kg": 80, "bsa_m2": 2,
            "lv_edvi_ml_per_m2": 50, "lv_esvi_ml_per_m2": 20, "lv_svi_ml_per_m2": 30,
            "rv_edvi_ml_per_m2": 45, "rv_esvi_ml_per_m2": 18, "rv_svi_ml_per_m2": 27,
            "lv_massi_g_per_m2": 63,
        }
    )  # fmt: skip
    assert tuple(values) == HEART
    assert found.lines == ()
    assert in_words(found)["LV EDV index"].text == "50 ml/m²"
    assert in_words(found)["LV mass index"].text == "63 g/m²"


def test_shells_that_shrink() -> None:
    affine = oblique()
    drawn = [shells(affine, (40, 44, 9), cavity, 23) for cavity in (15, 10)]
    frames = [count_frame(each, NAMES, affine, name=str(index)) for index, each in enumerate(drawn)]
    values = measure_patient(frames, NAMES).values
    full, left = (int((each == 1).sum()) for each in drawn)
    assert values["lv_ef_percent"] == pytest.approx(100 * (full - left) / full)
    volume = abs(np.linalg.det(affine)) / 1000
    assert values["lv_mass_g"] == pytest.approx(1.05 * int((drawn[0] == 2).sum()) * volume)
    assert (values["ed"], values["es"], values["phases_by"]) == ("0", "1", "LV volume")


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=30, unique=True), st.integers(0, 29))
def test_a_beat_may_begin_anywhere(curve: list[int], start: int) -> None:
    frames = [frame(size, rv=size + 7) for size in curve]
    turned = frames[start % len(frames) :] + frames[: start % len(frames)]
    assert measure_patient(turned, NAMES).values == measure_patient(frames, NAMES).values
    ed, es, _ = find_phases(frames, [])
    assert ed is not None
    assert es is not None
    assert (ed.voxels["LV"], es.voxels["LV"]) == (max(curve), min(curve))


@pytest.mark.parametrize(
    ("frames", "line", "filled"),
    [
        ([], "nothing is labelled, so neither ED nor ES is known", ()),
        ([frame(0, 0, 0), frame(0, 0, 0)], "nothing is labelled, so neither ED nor ES is known", ()),
        ([frame(9), frame(9)], "the LV has one size in all phases, so neither ED nor ES is known", ()),
        (
            [frame(9), frame(0, 0, 0)],
            "1 of 2 phases without any label left out",
            (),
        ),
        ([frame(5000, phase="ED")], "no ES", ("lv_edv_ml", "rv_edv_ml", "lv_mass_g")),
        ([frame(5000, phase="ES")], "no ED", ("lv_esv_ml", "rv_esv_ml")),
        ([frame(5000)], "there is one phase and nothing says which, so neither ED nor ES is known", ()),
        (
            [frame(5000, phase="ED"), frame(2000, rv=0, phase="ES")],
            "RV: empty at ES",
            ("lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_ef_percent", "rv_edv_ml", "lv_mass_g"),
        ),
        (
            [frame(5000, phase="ED"), frame(0, phase="ES")],
            "LV: empty at ES",
            ("lv_edv_ml", "rv_edv_ml", "rv_esv_ml", "rv_sv_ml", "rv_ef_percent", "lv_mass_g"),
        ),
        (
            [frame(2000, rv=70, phase="ED"), frame(5000, phase="ES")],
            "LV: larger at ES than at ED, so there is no SV and no EF; check the phases",
            ("lv_edv_ml", "lv_esv_ml", "rv_edv_ml", "rv_esv_ml", "lv_mass_g"),
        ),
        ([frame(9, ml=None, phase="ED"), frame(5, ml=None, phase="ES")], "", ()),  # single slices
    ],
)
def test_never_a_number_from_nothing(frames: list[Frame], line: str, filled: tuple[str, ...]) -> None:
    found = measure_patient(frames, NAMES)
    assert [key for key in HEART[:-3] if isinstance(found.values[key], float)] == list(filled)
    assert not line or line in found.lines


def test_a_nominal_spacing_gives_ratios_alone() -> None:
    sizes = {"ED": 5000, "ES": 2000}
    frames = [replace(frame(n, rv=n, phase=phase), scaled=False) for phase, n in sizes.items()]
    found = measure_patient(frames, NAMES, Body(180, 80))
    numbers = [key for key in HEART if isinstance(found.values[key], float)]
    assert numbers == ["lv_ef_percent", "rv_ef_percent", "bsa_m2"]
    assert found.values["lv_ef_percent"] == pytest.approx(60)
    assert found.lines == ("the spacing is not the true one, so there are ratios but no volumes",)
    frames[1] = replace(frames[1], voxel_ml=0.03)
    found = measure_patient(frames, NAMES)
    assert found.values["lv_ef_percent"] is None
    assert "ED and ES lie in different grids" in found.lines


STROKES = "stroke volumes of LV and RV differ by "
MUSCLE = "volumes of the myocardium at ED and at ES differ by "


@pytest.mark.parametrize(
    ("ed", "es", "scaled", "said"),
    [
        ((100, 120, 90), (40, 115, 54), True, [f"{STROKES}40 % (60 and 36 ml)"]),
        ((100, 120, 90), (40, 115, 45), True, []),  # 25 %
        ((100, 120, 90), (40, 115, 54), False, [f"{STROKES}40 %;"]),
        ((20, 120, 20), (0.5, 115, 10), True, []),  # 9.5 ml
        ((20, 120, 20), (0.5, 115, 10), False, [f"{STROKES}49 %;"]),
        ((100, 120, 60), (40, 115, 70), True, ["RV: larger at ES than at ED"]),
        ((100, 120, 90), (40, 90, 36), True, [f"{MUSCLE}25 % (120 and 90 ml)"]),
        ((100, 60, 90), (40, 45, 36), True, []),  # 15 ml
        ((100, 60, 90), (40, 45, 36), False, [f"{MUSCLE}25 %;"]),
        ((100, 120, 90), (40, 0, 36), True, []),
    ],
)
def test_numbers_that_should_agree(
    ed: tuple[float, ...], es: tuple[float, ...], scaled: bool, said: list[str]
) -> None:
    """ed, es: ml of LV, MYO and RV."""
    sizes = {phase: [round(50 * ml) for ml in drawn] for phase, drawn in (("ED", ed), ("ES", es))}
    frames = [replace(frame(*own, phase=phase), scaled=scaled) for phase, own in sizes.items()]
    lines = [line for line in measure_patient(frames, NAMES).lines if "true one" not in line]
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_a_missing_number_has_a_row_and_a_reason() -> None:
    small, large = frame(2000, rv=70, phase="ED"), frame(1000, rv=90, phase="ES")
    found = measure_patient([small, large], NAMES)
    rows = in_words(found)
    assert list(rows) == [
        "LV EDV", "LV ESV", "LV SV", "LV EF", "RV EDV", "RV ESV", "RV SV", "RV EF", "LV mass",
    ]  # fmt: skip
    odd = "RV: larger at ES than at ED, so there is no SV and no EF; check the phases"
    assert {name: cell.why for name, cell in rows.items() if cell.text == "–"} == {"RV SV": odd, "RV EF": odd}
    assert [each.order for each in found.remarks if each.text == odd] == [Order.NO_NUMBER]
    empty = in_words(measure_patient([small, frame(1000, rv=0, phase="ES")], NAMES))
    assert (empty["RV EDV"].why, empty["RV EF"].why) == ("", "RV: empty at ES")
    one = in_words(measure_patient([small], NAMES))
    assert {name for name, cell in one.items() if cell.why == "no ES"} == {
        "LV ESV", "LV SV", "LV EF", "RV ESV", "RV SV", "RV EF",
    }  # fmt: skip
    flat = in_words(measure_patient([replace(f, scaled=False) for f in (small, large)], NAMES))
    assert (flat["LV EDV"].why, flat["LV EF"].text) == (UNSCALED, "50 %")


def test_other_structures_have_volumes_alone() -> None:
    one = Frame("a", "", {"liver": 1000, "tumour": 0}, 0.03)
    names = ("background", "liver", "tumour")
    found = measure_patient([one], names)
    assert found.values == {"liver_ml": 30, "tumour_ml": 0}
    several = measure_patient([one, one], names)
    assert several.values == {"liver_ml": None, "tumour_ml": None}
    assert several.lines == ()


def test_without_some_of_the_heart() -> None:
    assert not [key for key in columns(("background", "LV")) if key.startswith(("rv", "lv_mass"))]
    blood = [replace(frame(size), voxels={"RV": size}) for size in (9, 5)]
    found = measure_patient(blood, ("background", "RV"))
    assert found.lines == ("there is no LV, so neither ED nor ES is known",)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (Body(180, None), "no weight, so nothing by body surface"),
        (Body(None, 80), "no height, so nothing by body surface"),
        (Body(), "no height and weight, so nothing by body surface"),
        (Body(1.8, 80), "1.8 is no height in cm, so nothing by body surface"),
        (Body(180, 80000), "80000 is no weight in kg, so nothing by body surface"),
    ],
)
def test_a_body_that_nobody_has(body: Body, line: str) -> None:
    found = measure_patient([frame(9, phase="ED"), frame(5, phase="ES")], NAMES, body)
    assert found.values["bsa_m2"] is None
    assert found.lines + found.body == (line,)
    assert line in found.notes


def test_the_surface_of_a_body() -> None:
    assert body_surface(160, 50) == pytest.approx(1.49, abs=0.005)  # as Mosteller's formula is usually tabled
    assert body_surface(200, 100) == pytest.approx(2.357, abs=0.0005)


def test_a_4d_stack_by_its_frames() -> None:
    frames = [count_frame(rings(5, cavity=size), NAMES, STACK, name=str(size)) for size in (6, 4, 5)]
    found = measure_patient(frames, NAMES)
    assert (found.values["ed"], found.values["es"]) == ("6", "4")
    assert found.slices == ("ED: LV in 5 of 5 slices (1 to 5)", "ES: LV in 5 of 5 slices (1 to 5)")
