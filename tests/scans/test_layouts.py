"""Data sets as their owners lay them out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coopseg.errors import CoopsegError
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.layouts import LAYOUTS, open_dataset
from coopseg.scans.load import load_label, load_scan
from coopseg.scans.nifti import write_image
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef

HEART = ("background", "LV", "MYO", "RV")


def label_of(item: ScanRef) -> Scan:
    """The label of an item that has one."""
    found = load_label(item)
    assert found is not None
    return found


def scan(path: Path, shape: tuple[int, ...] = (4, 4, 2), value: float = 0) -> None:
    write_image(path, np.full(shape, value), affine=np.diag([1, 1, 5, 1.0]), dtype=np.int16)


def acdc(root: Path, patients: Sequence[str] = ("patient002", "patient001"), part: str = "") -> Path:
    for patient in patients:
        for number in (1, 12):
            for mark in ("", "_gt"):
                scan(root / part / patient / f"{patient}_frame{number:02d}{mark}.nii.gz")
        scan(root / part / patient / f"{patient}_4d.nii.gz", (4, 4, 2, 3))
        (root / part / patient / "Info.cfg").write_text(
            "ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\n"
        )
    return root


def mnms(
    root: Path,
    rows: Sequence[str] = ("B1,Philips,B,2,3,1", "A1,Siemens,A,1,0,2"),
    name: str = "211230_information.csv",
) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    header = "External code,VendorName,Vendor,Centre,ED,ES\n"
    (root / name).write_text(header + "\n".join(rows) + "\n")
    for part, code in (("Training/Labeled", "A1"), ("Testing", "B1"), ("Training/Unlabeled", "C1")):
        for mark in ("", "_gt") if code != "C1" else ("",):
            scan(root / part / code / f"{code}_sa{mark}.nii.gz", (4, 4, 2, 4))
    return root


def description(root: Path, **entries: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(entries))
    return root


def listing(dataset: Dataset) -> list[tuple[str, str, bool]]:
    return [
        (item.id, item.image.relative_to(dataset.root).as_posix(), item.label is not None)
        for item in dataset.items
    ]


# ACDC


def test_acdc(tmp_path: Path) -> None:
    dataset = open_dataset(acdc(tmp_path))
    assert (dataset.layout, dataset.labels) == (
        "acdc",
        Labels(("background", "RV", "MYO", "LV"), (0, 1, 2, 3)),
    )
    assert listing(dataset) == [
        (f"{patient}_{phase}", f"{patient}/{patient}_frame{number}.nii.gz", True)
        for patient in ("patient001", "patient002")
        for phase, number in (("ED", "01"), ("ES", "12"))
    ]
    assert dataset.patients == ("patient001", "patient002")
    assert [item.phase for item in dataset.items[:2]] == ["ED", "ES"]


def test_acdc_below_training_and_testing(tmp_path: Path) -> None:
    acdc(tmp_path, ["patient101"], "testing")
    dataset = open_dataset(acdc(tmp_path, ["patient001"], "training"))
    assert dataset.patients == ("patient001", "patient101")


def test_acdc_without_a_label_or_an_image(tmp_path: Path) -> None:
    root = acdc(tmp_path)
    (root / "patient001/patient001_frame12_gt.nii.gz").unlink()
    assert [item.label is None for item in open_dataset(root).items] == [False, True, False, False]
    (root / "patient001/patient001_frame12.nii.gz").unlink()
    with pytest.raises(
        CoopsegError, match=r"patient001_frame12\.nii\.gz: not found, but .*Info\.cfg names frame 12"
    ):
        open_dataset(root)


def test_acdc_info_without_frames(tmp_path: Path) -> None:
    root = acdc(tmp_path)
    (root / "patient001/Info.cfg").write_text("ED: 1\nGroup: DCM\n")
    with pytest.raises(CoopsegError, match=r'Info\.cfg: no line "ES: <frame number>"'):
        open_dataset(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ED: 1\nES: 12\nGroup: DCM\nES: 1\n", "more than one line ES; leave the right one"),
        ("ED: 12\nES: 12\n", "ED and ES of patient001 are the same frame; correct it"),
        ("ED: 1\x0cES: 12\n", 'no line "ED: <frame number>"'),
    ],
)
def test_acdc_info_that_contradicts_itself(tmp_path: Path, content: str, message: str) -> None:
    config = acdc(tmp_path) / "patient001/Info.cfg"
    config.write_text(content)
    with pytest.raises(CoopsegError, match=f"^{config}: {message}"):
        open_dataset(tmp_path)
    problems: list[CoopsegError] = []
    assert open_dataset(tmp_path, problems=problems).patients == ("patient002",)
    assert message in str(problems[0])


# M&Ms


@pytest.mark.parametrize("name", ["M&Ms Dataset Information.csv", "211230_opendataset.csv"])
def test_mnms(tmp_path: Path, name: str) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    dataset = open_dataset(mnms(tmp_path, name=name))
    assert (dataset.layout, dataset.labels) == ("mnms", Labels(HEART, (0, 1, 2, 3)))
    assert [(item.id, item.frame, item.site) for item in dataset.items] == [
        ("A1_ED", 0, "Siemens/1"),
        ("A1_ES", 2, "Siemens/1"),
        ("B1_ED", 3, "Philips/2"),
        ("B1_ES", 1, "Philips/2"),
    ]
    assert load_scan(dataset.items[0]).data.shape == label_of(dataset.items[0]).data.shape == (4, 4, 2)


def test_mnms_columns_in_any_order_with_others_among_them(tmp_path: Path) -> None:
    root = mnms(tmp_path)
    (root / "211230_information.csv").write_text(
        "\ufeff,ES, Vendor,ED,Pathology,Centre,VendorName,External code\n0,2.0,A,0.0,HCM,1,Siemens,A1\n\n"
    )
    assert [(item.id, item.frame, item.site) for item in open_dataset(root).items] == [
        ("A1_ED", 0, "Siemens/1"), ("A1_ES", 2, "Siemens/1"),
    ]  # fmt: skip


def test_mnms_unlabelled_and_absent_subjects(tmp_path: Path) -> None:
    rows = ("A1,Siemens,A,1,0,2", "C1,GE,D,6,1,0", "Z9,GE,D,6,1,0")
    dataset = open_dataset(mnms(tmp_path, rows))
    assert [(item.id, item.label is None) for item in dataset.items] == [
        ("A1_ED", False), ("A1_ES", False), ("C1_ED", True), ("C1_ES", True),
    ]  # fmt: skip
    assert open_dataset(mnms(tmp_path, ("A1,Siemens,A,1,0,2", "C1,GE,D,6,,"))).patients == ("A1",)


def test_mnms_frames_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match="column ES of A1 holds ''"):
        open_dataset(mnms(tmp_path, ("A1,Siemens,A,1,0,",)))
    dataset = open_dataset(mnms(tmp_path, ("A1,Siemens,A,1,0,4",)))
    with pytest.raises(CoopsegError, match=r"frame 4 \(from 0\) of A1_ES is not in a file of 4 frames"):
        load_scan(dataset.items[1])


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "External code,VendorName,Vendor,Centre,ED,ES",
            "A1,Siemens, old,A,1,0,2",
            "row of 'A1' has more cells",
        ),
        (
            "External code,VendorName,Vendor,Centre,ED,ES,ED",
            "A1,Siemens,A,1,0,2,1",
            "more than one column ED",
        ),
        (
            "External code,VendorName,Vendor,Centre,ED,ES",
            "A1,Siemens,A,1,2,2",
            "ED and ES of A1 are the same",
        ),
    ],
)
def test_mnms_tables_that_would_be_misread(tmp_path: Path, header: str, row: str, message: str) -> None:
    """Each of these once gave a data set of other frames without a word."""
    table = mnms(tmp_path) / "211230_information.csv"
    table.write_text(f"{header}\n{row}\n")
    with pytest.raises(CoopsegError, match=f"^{table}: .*{message}"):
        open_dataset(tmp_path)


def test_mnms_rows_that_end_early_or_in_empty_cells(tmp_path: Path) -> None:
    """As spreadsheets write them."""
    dataset = open_dataset(mnms(tmp_path, ("A1,Siemens,A,1,0,2,,,", "C1,GE,D")))
    assert [(item.id, item.frame) for item in dataset.items] == [("A1_ED", 0), ("A1_ES", 2)]


# nnU-Net


def nnunet(root: Path, **entries: Any) -> Path:
    for case in ("p2", "p1_ED", "p1_ES"):
        scan(root / f"imagesTr/{case}_0000.nii.gz")
        scan(root / f"labelsTr/{case}.nii.gz")
    scan(root / "imagesTs/p3_0000.nii.gz")
    return description(root, **entries)


V1 = {
    "modality": {"0": "MRI"},
    "labels": {"0": "background", "1": "LV", "2": "MYO", "3": "RV"},
    "training": [],
}
V2 = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "LV": 1, "MYO": 2, "RV": 3},
    "numTraining": 3,
}


@pytest.mark.parametrize("entries", [V1, V2], ids=["v1", "v2"])
def test_nnunet(tmp_path: Path, entries: dict[str, Any]) -> None:
    dataset = open_dataset(nnunet(tmp_path, **entries))
    assert (dataset.layout, dataset.labels) == ("nnunet", Labels(HEART, (0, 1, 2, 3)))
    assert listing(dataset) == [
        ("p1_ED", "imagesTr/p1_ED_0000.nii.gz", True),
        ("p1_ES", "imagesTr/p1_ES_0000.nii.gz", True),
        ("p2", "imagesTr/p2_0000.nii.gz", True),
    ]
    assert dataset.patients == ("p1", "p2")
    assert [item.id for item in dataset.unlabelled] == ["p3"]


def test_nnunet_with_several_channels(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, **V2 | {"channel_names": {"1": "T2", "0": "T1"}})
    for name in ("imagesTr/p1_ED", "imagesTr/p1_ES", "imagesTs/p3"):
        scan(folder / f"{name}_0001.nii.gz")
    with pytest.raises(CoopsegError, match="imagesTr: p2 has no file for channel 0001; add it"):
        open_dataset(folder)
    scan(folder / "imagesTr/p2_0001.nii.gz")
    dataset = open_dataset(folder)
    assert dataset.channels == ("T1", "T2")
    assert [[file.name for file in item.images] for item in (*dataset.items, *dataset.unlabelled)] == [
        [f"{case}_0000.nii.gz", f"{case}_0001.nii.gz"] for case in ("p1_ED", "p1_ES", "p2", "p3")
    ]
    assert not dataset.passed_over
    scan(folder / "imagesTr/p2_0002.nii.gz")
    with pytest.raises(CoopsegError, match=r"p2_0002\.nii\.gz: channel 0002, but dataset.json names 2"):
        open_dataset(folder)


def test_nnunet_with_a_channel_that_nobody_names(tmp_path: Path) -> None:
    scan(nnunet(tmp_path, **V2) / "imagesTr/p2_0001.nii.gz")
    with pytest.raises(
        CoopsegError, match=r"p2_0001\.nii\.gz: channel 0001, but dataset.json names 1 channel"
    ):
        open_dataset(tmp_path)
    problems: list[CoopsegError] = []
    dataset = open_dataset(tmp_path, problems=problems)
    assert [item.patient for item in dataset.items] == ["p1", "p1"]
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "whole": [1, 2]}, "label 'whole' is a region"),
        ({"background": 0, "LV": 1, "ignore": 2}, '"ignore" is not supported'),
        ({"background": 0, "LV": 1.5}, "is no name and value"),
        ({}, 'no "labels"'),
        (["LV"], 'no "labels"'),
    ],
)
def test_labels_that_cannot_be_used(tmp_path: Path, labels: dict[str, Any] | list[Any], message: str) -> None:
    with pytest.raises(CoopsegError, match=message):
        open_dataset(nnunet(tmp_path, **V2 | {"labels": labels}))


# Decathlon


def decathlon(root: Path, **entries: Any) -> Path:
    for name in ("imagesTr/h1", "labelsTr/h1", "imagesTr/h0", "labelsTr/h0", "imagesTs/h2"):
        scan(root / f"{name}.nii.gz")
    training = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("h1", "h0")]
    given = {"name": "Heart", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "left atrium"}}
    return description(root, **given | {"training": training, "test": ["./imagesTs/h2.nii.gz"]} | entries)


def test_decathlon(tmp_path: Path) -> None:
    dataset = open_dataset(decathlon(tmp_path))
    assert (dataset.name, dataset.layout) == ("Heart", "decathlon")
    assert dataset.labels == Labels(("background", "left atrium"), (0, 1))
    assert listing(dataset) == [
        ("h0", "imagesTr/h0.nii.gz", True),
        ("h1", "imagesTr/h1.nii.gz", True),
    ]
    assert [item.id for item in dataset.unlabelled] == ["h2"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"modality": {"0": "T1", "2": "T2"}}, "number the channels from 0"),
        ({"modality": {"0": "T1", "1": 2}}, "number the channels from 0"),
        (
            {"training": [{"image": "./imagesTr/none.nii.gz"}]},
            r"none\.nii\.gz: not found, but .*dataset\.json lists it",
        ),
        ({"training": [7]}, "cannot read the entry 7"),
        ({"training": [{"image": "imagesTr/h0.nii.gz", "label": 3}]}, "cannot read the entry"),
    ],
)
def test_decathlon_that_cannot_be_read(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    with pytest.raises(CoopsegError, match=message):
        open_dataset(decathlon(tmp_path, **entries))


# plain folders


def test_folder_of_images_and_labels(tmp_path: Path) -> None:
    for name in ("images/b", "images/a_ED", "labels/b"):
        scan(tmp_path / f"{name}.nii.gz", value=7 if "labels" in name else 0)
    scan(tmp_path / "labels/a_ED.nii")  # .nii beside .nii.gz is the same name
    (tmp_path / "images/._a_ED.nii.gz").write_bytes(b"written by macOS")
    dataset = open_dataset(tmp_path)
    assert dataset.labels == Labels(("background", "label7"), (0, 7))
    assert listing(dataset) == [("a_ED", "images/a_ED.nii.gz", True), ("b", "images/b.nii.gz", True)]
    assert dataset.items[0].patient == "a"
    assert open_dataset(tmp_path, labels=Labels(("background", "LV"), (0, 7))).labels.names == (
        "background",
        "LV",
    )


@pytest.mark.parametrize("mark", ["_gt", "_seg", "_label", "_mask"])
def test_folder_of_marked_labels(tmp_path: Path, mark: str) -> None:
    for name in ("a", f"a{mark}", "b"):
        scan(tmp_path / f"{name}.nii.gz")
    dataset = open_dataset(tmp_path)
    assert listing(dataset) == [("a", "a.nii.gz", True), ("b", "b.nii.gz", False)]
    assert dataset.labels == Labels(("background",), (0,))
    (tmp_path / "a.nii.gz").unlink()
    with pytest.raises(CoopsegError, match=f"a{mark}.nii.gz: a label without its image"):
        open_dataset(tmp_path)


def test_folder_that_lists_its_items(tmp_path: Path) -> None:
    for name in ("images/p1_ED_copy1", "images/p1_ED_copy2", "labels/p1"):
        scan(tmp_path / f"{name}.nii.gz")
    shared: dict[str, Any] = {
        "label": "labels/p1.nii.gz",
        "patient": "p1",
        "phase": "ED",
        "site": "Siemens/1",
    }
    items = [{"image": f"images/p1_ED_copy{copy}.nii.gz", "copy": copy} | shared for copy in (2, 1)]
    labels = {"background": 0, "LV": 1}
    dataset = open_dataset(
        description(tmp_path, name="RandBias", normalised=True, labels=labels, items=items)
    )
    assert (dataset.name, dataset.labels, dataset.patients) == (
        "RandBias",
        Labels(("background", "LV"), (0, 1)),
        ("p1",),
    )
    assert [item.id for item in dataset.items] == ["p1_ED_copy1", "p1_ED_copy2"]
    assert all(item.normalised and item.site == "Siemens/1" for item in dataset.items)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"items": [{"image": "a.nii.gz", "pateint": "p"}]},
            "has pateint: 'p'; known keys: image, label, patient",
        ),
        ({"items": [{"image": "a.nii.gz", "copy": "1"}]}, "has copy: '1'"),
        ({"items": [{"image": "a.nii.gz", "site": None}]}, "has site: None"),
        ({"items": [{"label": "a.nii.gz"}]}, "cannot read the item"),
        ({"items": 3}, "cannot read the item 3"),
        ({"items": [{"image": "none.nii.gz"}]}, "not found, but"),
        ({"items": [{"image": "a.nii.gz", "patient": "../p"}]}, "cannot be part of a file name"),
        ({"items": [{"image": "a.nii.gz"}, {"image": "a.nii.gz"}]}, r"the same patient and phase \(a\)"),
        ({"items": [], "labels": {"LV": 1}}, "no scans found; looked for images/"),
        ({"normalised": "yes"}, "write true or false"),
    ],
)
def test_folder_descriptions_that_cannot_be_read(
    tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    scan(tmp_path / "a.nii.gz")
    with pytest.raises(CoopsegError, match=message):
        open_dataset(description(tmp_path, **entries))


def test_descriptions_that_are_no_json_object(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz")
    (tmp_path / "dataset.json").write_text("{name: x}")
    with pytest.raises(CoopsegError, match=r"dataset\.json: cannot be read as JSON"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(CoopsegError, match="must hold a JSON object, found list"):
        open_dataset(tmp_path)


# recognition


def test_nothing_recognised_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        CoopsegError, match=r"Info\.cfg.*External code.*imagesTr.*training.*images/X"
    ) as refusal:
        open_dataset(tmp_path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(CoopsegError, match="no such folder"):
        open_dataset(tmp_path / "none")
    with pytest.raises(CoopsegError, match='layout "acbc" is not known; take one of auto, acdc, mnms'):
        open_dataset(tmp_path, layout="acbc")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_asked_for_that_is_not_there(tmp_path: Path, layout: str) -> None:
    with pytest.raises(CoopsegError, match="looked for"):
        open_dataset(tmp_path, layout=layout)


def test_the_layout_can_be_told(tmp_path: Path) -> None:
    scan(acdc(tmp_path) / "a.nii.gz")
    assert open_dataset(tmp_path).layout == "acdc"
    assert open_dataset(tmp_path, layout="folder").patients == ("a",)


# the real ones


@pytest.mark.real
@pytest.mark.parametrize(("name", "patients", "sites"), [
    ("acdc", 80, {""}), ("mnms", 24, {"Siemens/1", "Philips/2", "Philips/3"}),
])  # fmt: skip
def test_real_data_sets(real_data: Path, name: str, patients: int, sites: set[str]) -> None:
    dataset = open_dataset(real_data / name)
    assert dataset.layout == name
    assert (len(dataset.patients), len(dataset.items)) == (patients, 2 * patients)
    assert {item.site for item in dataset.items} == sites
    for item in dataset.items:
        label = load_label(item)
        indices = labels_to_indices(label.data, dataset.labels, names=HEART, path=item.label)  # type: ignore[union-attr]
        assert set(np.unique(indices)) == {0, 1, 2, 3}
        # anatomy: the myocardium surrounds the LV, so LV voxels have MYO beside them and the RV hardly any
        lv, myo, rv = (indices == index for index in (1, 2, 3))
        assert (np.roll(lv, 1, 0) & myo).sum() > (np.roll(lv, 1, 0) & rv).sum()
    for item in dataset.items[::20]:
        assert load_scan(item).data.shape == label_of(item).data.shape


@pytest.mark.real
def test_phases_are_the_right_way_round(real_data: Path) -> None:
    """At ES the LV cavity is smaller than at ED."""
    for name in ("acdc", "mnms"):
        dataset = open_dataset(real_data / name)
        value = dataset.labels.values[dataset.labels.names.index("LV")]
        for ed, es in list(zip(dataset.items[::2], dataset.items[1::2], strict=True))[::4]:
            assert (ed.phase, es.phase) == ("ED", "ES")
            assert (label_of(es).data == value).sum() < (label_of(ed).data == value).sum()
