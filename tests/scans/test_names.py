"""What names say."""

import unicodedata
from pathlib import Path

import pytest

from coopseg.scans.names import alike_patients, describe_alike, read_name, stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [("p01_ED", ("p01", "", "ED")), ("p_01_es", ("p_01", "", "ES")), ("p01_frame07", ("p01", "", "frame07")),
     ("p01", ("p01", "", "")), ("frame07", ("frame07", "", "")), ("p01_EDx", ("p01_EDx", "", "")),
     ("sub-01_ses-2", ("sub-01", "ses-2", "")), ("sub-01_ses-2_ES", ("sub-01", "ses-2", "ES")),
     ("sub-01_ED", ("sub-01", "", "ED")), ("sub-01", ("sub-01", "", "")), ("subject1", ("subject1", "", ""))],
)  # fmt: skip
def test_read_name(name: str, expected: tuple[str, str, str]) -> None:
    assert read_name(name) == expected


def test_stems_are_equal_whatever_the_form() -> None:
    composed, apart = unicodedata.normalize("NFC", "Jörg"), unicodedata.normalize("NFD", "Jörg")
    names = composed + ".nii", apart + ".nii.gz", apart + ".NII.GZ"
    assert {stem(Path(name)) for name in names} == {composed}


VISITS = [f"study_{patient:02d}{visit:02d}" for patient in (8, 9, 10) for visit in range(patient - 6)]


@pytest.mark.parametrize(
    ("patients", "groups"),
    [
        (VISITS, [VISITS[0:2], VISITS[2:5], VISITS[5:9]]),
        (["001_SA", "001_LA", "002_sax", "003_4CH", "003_SA"], [["001_LA", "001_SA"], ["003_4CH", "003_SA"]]),
        (["ann_1", "ann_2", "bob_1", "bob_2", "eve_1"], [["ann_1", "ann_2"], ["bob_1", "bob_2"]]),
        (["01a", "01b", "02a", "02b"], [["01a", "01b"], ["02a", "02b"]]),
        (["x_v1", "x_v3", "y"], [["x_v1", "x_v3"]]),
        (["x_pre", "x_post", "y_pre"], [["x_post", "x_pre"]]),
    ],
)  # fmt: skip
def test_visits_and_views(patients: list[str], groups: list[list[str]]) -> None:
    assert [list(group) for group in alike_patients(patients)] == groups
    assert alike_patients(patients[::-1]) == alike_patients(patients)


@pytest.mark.parametrize(
    "patients",
    [
        [f"case{number}" for number in range(1, 30)],
        [f"case{number:02d}" for number in range(1, 13)],
        [f"patient{number:03d}" for number in range(1, 151)],
        [f"la_{number:03d}" for number in range(30)],
        [f"site{site}_{number}" for site in "AB" for number in range(1, 21)],
        [f"H{site:02d}P{number:02d}" for site in range(3) for number in range(20)],
        ["A0S9V9", "A1D0Q7", "A1D9Z7", "A1E9Q1", "A1K2P5", "A1O8Z3"],  # as M&Ms calls its subjects
        ["smith", "jones"],
        ["smith_1", "jones"],
        [],
    ],
)
def test_plain_numbers_are_patients(patients: list[str]) -> None:
    assert alike_patients(patients) == []


def test_describe_alike() -> None:
    assert describe_alike([("a_1", "a_2")]) == "a_1, a_2 may be visits or views of one person"
    assert describe_alike([("a_1", "a_2"), ("b_1", "b_2")]).endswith(", and so may 1 more group")
