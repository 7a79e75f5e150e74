"""Splits as published, drawn and read from files; selection of a part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coopseg.cases.splits import NAMED, Split, find_split, get_split, select_part, select_patients
from coopseg.errors import CoopsegError
from coopseg.scans.layouts import open_dataset
from coopseg.scans.types import Dataset, Labels, ScanRef

GROUPS = 20  # ACDC's patients come in five diagnosis groups of twenty


def dataset_of(patients: list[str]) -> Dataset:
    items = tuple(ScanRef(p, Path(f"{p}.nii.gz"), phase=phase) for p in patients for phase in ("ED", "ES"))
    return Dataset("toy", Path("toy"), "folder", Labels(("background", "LV"), (0, 1)), items)


ACDC = dataset_of([f"patient{n:03d}" for n in range(1, 101)])


def group_counts(patients: tuple[str, ...]) -> list[int]:
    numbers = [int(patient.removeprefix("patient")) - 1 for patient in patients]
    return [sum(number // GROUPS == group for number in numbers) for group in range(5)]


@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_splits_are_disjoint_and_balanced_in_test(name: str) -> None:
    split = get_split(name, ACDC)
    everyone = split.train + split.validate + split.test
    assert len(set(everyone)) == len(everyone)
    assert set(everyone) <= set(ACDC.patients)
    choice = name.startswith("acdc-choose")
    assert group_counts(split.require("test")) == ([5, 7, 6, 8, 6] if choice else [4] * 5)
    expected = {"acdc-70": (70, 10, 20), "acdc-dev-70": (50, 10, 20)}.get(name, (10, 5, 32 if choice else 20))
    assert (len(split.train), len(split.validate), len(split.test)) == expected


def test_known_members() -> None:
    train = [1, 4, 12, 22, 44, 46, 53, 61, 73, 92]
    assert get_split("acdc-10-A", ACDC).train == tuple(f"patient{n:03d}" for n in train)
    assert get_split("acdc-10-C", ACDC).validate == tuple(f"patient{n:03d}" for n in (11, 71, 2, 62, 95))
    paper = {
        f"patient{n:03d}"
        for n in (7, 8, 9, 10, 27, 28, 29, 30, 47, 48, 49, 50, 67, 68, 69, 70, 87, 88, 89, 90)
    }
    assert set(get_split("acdc-70", ACDC).test) == set(get_split("acdc-10-B", ACDC).test) == paper
    standard = get_split("acdc-70", ACDC)
    assert set(standard.train) | set(standard.validate) | paper == set(ACDC.patients)
    development = get_split("acdc-dev-70", ACDC)
    assert set(development.train) | set(development.test) == set(standard.train)
    for draw in "ABC":
        paper_split, own = get_split(f"acdc-10-{draw}", ACDC), get_split(f"acdc-dev-{draw}", ACDC)
        assert (paper_split.train, paper_split.validate) == (own.train, own.validate)


def test_patients_to_choose_by_are_in_no_other_part() -> None:
    numbers = (
        "003 005 017 019 020 023 026 031 032 037 039 040 042 045 051 057 "
        "059 060 063 064 065 066 072 078 079 080 081 083 085 091 097 100"
    )
    listed = tuple(f"patient{number}" for number in numbers.split())
    assert len(listed) == 32
    for draw in "ABC":
        choice, paper, own = (get_split(f"acdc-{kind}-{draw}", ACDC) for kind in ("choose", "10", "dev"))
        assert choice.test == listed
        assert (choice.train, choice.validate) == (own.train, own.validate)
        for split in (paper, own):
            assert not {*split.train, *split.validate, *split.test} & set(listed)


def test_absent_test_patients_stop_testing_only() -> None:
    present = [patient for patient in ACDC.patients if patient not in ("patient007", "patient090")]
    split = get_split("acdc-10-A", dataset_of(present))
    assert len(split.require("train")) == 10
    with pytest.raises(CoopsegError, match=r"lacks 2 of 20 test patients \(patient007, patient090\)"):
        split.require("test")


def test_absent_training_patients_are_listed() -> None:
    present = [patient for patient in ACDC.patients if patient not in ("patient001", "patient095")]
    with pytest.raises(CoopsegError, match="no such patients: patient001, patient095"):
        get_split("acdc-dev-A", dataset_of(present))


def test_overlap_is_refused() -> None:
    with pytest.raises(CoopsegError, match="split mine: b, c in train and in test"):
        Split("mine", ("a", "b", "c"), ("d",), ("c", "b"))


@given(st.integers(3, 60), st.integers(0, 1000))
def test_random_split_uses_everyone_once(count: int, seed: int) -> None:
    dataset = dataset_of([f"p{index}" for index in range(count)])
    split = get_split("random", dataset, seed=seed)
    assert sorted(split.train + split.validate + split.test) == sorted(dataset.patients)
    assert min(len(split.train), len(split.validate), len(split.test)) >= 1
    assert abs(len(split.test) - 0.2 * count) <= 1
    assert abs(len(split.validate) - 0.1 * count) <= 1
    assert split == get_split("random", dataset_of(list(reversed(dataset.patients))), seed=seed)


def test_random_split_depends_on_the_seed() -> None:
    assert get_split("random", ACDC, seed=0) != get_split("random", ACDC, seed=1)
    with pytest.raises(CoopsegError, match="2 patients are too few"):
        get_split("random", dataset_of(["a", "b"]))


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_split_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"split{suffix}"
    path.write_text(json.dumps({"train": ["a", "b"], "validate": ["c"]}))  # JSON is YAML
    split = get_split(path, dataset_of(["a", "b", "c"]))
    assert (split.train, split.validate, split.test) == (("a", "b"), ("c",), ())
    with pytest.raises(CoopsegError, match="no test patients"):
        split.require("test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": ["a"], "validate": ["b"], "test": ["z"]}', "no such patients: z"),
        ('{"train": ["a"], "validate": ["a"]}', "a in train and in validate"),
        ('{"train": ["a", "a"], "validate": ["b"]}', "train names a more than once"),
        ('{"train": ["a"], "validate": ["b"], "tests": []}', "nothing else"),
        ('{"train": ["a"]}', "nothing else"),
        ('["a"]', "nothing else"),
        ('{"train": "a", "validate": ["b"]}', "train must be a list"),
        ('{"train": [1], "validate": ["b"]}', "train must be a list of patient names in quotes"),
        ('{"train": ["a"', "not readable"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_faulty_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str, suffix: str) -> None:
    path = tmp_path / f"split{suffix}"
    path.write_text(text)
    with pytest.raises(CoopsegError, match=message) as error:
        get_split(str(path), dataset_of(["a", "b", "c"]))
    assert "\n" not in str(error.value)


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(CoopsegError, match=r"acdc-11-A: no such split; use acdc-10-A, .*, random or a JSON"):
        get_split("acdc-11-A", ACDC)


@pytest.mark.real
@pytest.mark.parametrize(
    "name", sorted(name for name in NAMED if name.startswith(("acdc-dev", "acdc-choose")))
)
def test_splits_without_the_papers_test_are_complete_on_the_real_folder(real_data: Path, name: str) -> None:
    split = get_split(name, open_dataset(real_data / "acdc"))
    assert split.absent == ()
    assert len(split.require("test")) == (32 if "choose" in name else 20)


LABELS = Labels(("background",), (0,))
SPLIT = {"name": "random-3", "train": ["a"], "validate": ["b"], "test": ["c", "d"]}


def dataset(*patients: str) -> Dataset:
    items = tuple(ScanRef(name, Path(f"{name}_{k}.nii"), phase=str(k)) for name in patients for k in (0, 1))
    return Dataset("toy", Path("toy"), "folder", LABELS, items)


def test_a_split_by_name_by_file_and_of_a_run(tmp_path: Path) -> None:
    assert find_split("acdc-10-A") == Split("acdc-10-A", *NAMED["acdc-10-A"])
    (tmp_path / "run.json").write_text(json.dumps({"split": SPLIT}))
    assert find_split(tmp_path) == Split("random-3", ("a",), ("b",), ("c", "d"))
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"train": ["a"], "validate": ["b"], "test": ["c"]}))
    assert find_split(file).test == ("c",)


@pytest.mark.parametrize("content", [None, "{", "{}", '{"split": {"name": "x"}}'])
def test_a_folder_that_is_no_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(CoopsegError, match=r"run\.json: .*folder of a finished training"):
        find_split(tmp_path)


def test_parts() -> None:
    split = Split("s", ("a",), ("b",), ("c", "d"))
    assert select_part(dataset("a", "b", "c", "d", "e"), split, "test").patients == ("c", "d")
    assert len(select_part(dataset("d", "c"), split, "test").items) == 4  # copies of the test part alone
    other = dataset("x", "y")
    assert select_part(other, split, "test") is other
    with pytest.raises(CoopsegError, match=r"lacks 1 of 2 test patients \(d\)"):
        select_part(dataset("a", "c"), split, "test")


def test_patients_by_name() -> None:
    assert select_patients(dataset("a", "b", "c"), ["c", "a"]).patients == ("a", "c")
    with pytest.raises(CoopsegError, match="toy: no such patients: z"):
        select_patients(dataset("a"), ["a", "z"])
