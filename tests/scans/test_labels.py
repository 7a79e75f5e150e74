"""Label values by name."""

from pathlib import Path

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.labels import (
    canonical_name,
    labels_to_indices,
    make_labels,
    parse_label_names,
)
from coopseg.scans.layouts.cardiac import ACDC_LABELS, MNMS_LABELS
from coopseg.scans.types import Labels

PATH = Path("label.nii.gz")
NAMES = ("background", "LV", "MYO", "RV")


@pytest.mark.parametrize("labels", [ACDC_LABELS, MNMS_LABELS])
def test_values_are_mapped_by_name(labels: Labels) -> None:
    data = np.arange(4).reshape(2, 2, 1)
    indices = labels_to_indices(data, labels, names=NAMES, path=PATH)
    assert indices.dtype == np.uint8
    for value, name in zip(labels.values, labels.names, strict=True):
        assert NAMES[indices[data == value][0]] == name


def test_the_same_heart_in_acdc_and_mnms_becomes_the_same_indices() -> None:
    rv_myo_lv = np.array([[[1, 2, 3]]])
    first = labels_to_indices(rv_myo_lv, ACDC_LABELS, names=NAMES, path=PATH)
    second = labels_to_indices(rv_myo_lv[..., ::-1], MNMS_LABELS, names=NAMES, path=PATH)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first.ravel(), [3, 2, 1])


def test_values_far_apart_and_aliases() -> None:
    labels = Labels(("BG", "Left Ventricle", "lvm", "right_ventricle"), (0, 500, 200, 600))
    data = np.array([[[0, 200, 500, 600]]])
    np.testing.assert_array_equal(
        labels_to_indices(data, labels, names=NAMES, path=PATH).ravel(), [0, 2, 1, 3]
    )


def test_a_value_without_a_name_is_refused() -> None:
    with pytest.raises(CoopsegError, match=r"^label\.nii\.gz: label value 4 has no name .*--labels$"):
        labels_to_indices(np.array([[[4]]]), ACDC_LABELS, names=NAMES, path=PATH)


def test_a_name_the_data_set_lacks_is_refused() -> None:
    with pytest.raises(CoopsegError, match="has no label atrium, only background, RV, MYO, LV"):
        labels_to_indices(np.zeros((1, 1, 1), int), ACDC_LABELS, names=(*NAMES, "atrium"), path=PATH)


def test_a_structure_that_is_not_wanted_is_refused() -> None:
    data, names = np.array([[[0, 1, 2, 3]]]), ("background", "LV")
    with pytest.raises(CoopsegError, match="label 1 is RV, which is not among background, LV"):
        labels_to_indices(data, ACDC_LABELS, names=names, path=PATH)


@pytest.mark.parametrize(
    ("given", "name"),
    [("LVC", "LV"), ("left ventricle", "LV"), ("LVM", "MYO"), ("Myocardium", "MYO"), (" rv ", "RV"),
     ("Background", "background"), ("Liver", "Liver")],
)  # fmt: skip
def test_names_of_the_field(given: str, name: str) -> None:
    assert canonical_name(given) == name


def test_labels_of_the_command_line() -> None:
    assert parse_label_names("RV=3, lv=1,MYO=2") == Labels(NAMES, (0, 1, 2, 3))
    assert parse_label_names("liver=0,background=9") == Labels(("background", "liver"), (9, 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read ''"),
        ("LV", "cannot read 'LV'"),
        ("LV=x", "cannot read 'LV=x'"),
        ("LV=-1", "cannot read 'LV=-1'"),
        ("=1", "cannot read '=1'"),
        ("LV=1,LVC=2", "label name LV is given twice"),
        ("LV=1,MYO=1", "label value 1 is given twice"),
        ("LV=0", "label value 0 is given twice"),
    ],
)
def test_labels_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(CoopsegError, match=message):
        parse_label_names(text)


def test_negative_values_are_refused() -> None:
    with pytest.raises(CoopsegError, match=r"^a\.json: labels need a name and a value of 0 or more"):
        make_labels([("LV", -1)], source="a.json")
