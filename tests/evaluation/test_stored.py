"""Label maps of other programs: found by name, read by their values, refused in another grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from coopseg.errors import CoopsegError, PartlyDone
from coopseg.evaluation.run import evaluate_model, open_datasets
from coopseg.evaluation.stored import load_stored
from coopseg.scans.labels import parse_label_names
from coopseg.scans.types import Dataset, ScanRef

pytestmark = pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage`:DeprecationWarning")
Change = Callable[[np.ndarray], np.ndarray]


def copy_label(seen: Path, name: str, target: Path, change: Change = lambda data: data) -> None:
    """Writes the true label map of a volume as its prediction, by another library."""
    label = nibabel.load(seen / "labels" / f"{name}.nii.gz")
    target.parent.mkdir(parents=True, exist_ok=True)
    data = change(np.asanyarray(label.dataobj))  # type: ignore[attr-defined]
    nibabel.save(nibabel.Nifti1Image(data, label.affine), target)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("pattern", "image"),
    [
        ("{}.nii.gz", "{}.nii.gz"),
        ("{}.nii", "{}.nii.gz"),
        ("{}_seg.nii.gz", "{}.nii.gz"),
        ("deep/er/{}.nii.gz", "{}.nii.gz"),
        ("seen/{}.nii.gz", "{}.nii.gz"),
        ("{}.nii.gz", "{}_0000.nii.gz"),  # as nnU-Net names the scan
    ],
)
def test_found_by_name(seen: Path, tmp_path: Path, pattern: str, image: str) -> None:
    (dataset,) = open_datasets(seen)
    items = []
    for ref in dataset.items:
        items.append(
            replace(ref, patient=f"of {ref.id}", phase="", image=ref.image.with_name(image.format(ref.id)))
        )
        ref.image.rename(items[-1].image)
        copy_label(seen, ref.id, tmp_path / "made" / pattern.format(ref.id))
    found = evaluate_model(
        None, replace(dataset, items=tuple(items)), tmp_path / "out", predictions=tmp_path / "made"
    )
    assert {row["dice"] for row in found.rows} == {1.0}
    assert {row["nsd"] for row in found.rows} == {1.0}
    assert len(found.rows) == 4 * 3


def test_what_is_missing_left_over_or_elsewhere_is_named(seen: Path, tmp_path: Path) -> None:
    made, out = tmp_path / "made", tmp_path / "out"
    copy_label(seen, "p0_ED", made / "p0_ED.nii.gz")
    copy_label(seen, "p1_ED", made / "p1_ED.nii.gz", lambda data: data[:-1])
    copy_label(seen, "p2_ED", made / "p2_ED.nii.gz", lambda data: np.where(data == 30, 31, data))
    copy_label(seen, "p3_ED", made / "other.nii.gz")
    with pytest.raises(PartlyDone) as caught:
        evaluate_model(None, seen, out, predictions=made)
    moved, valued, missing = map(str, caught.value.failed)
    assert f"{made / 'p1_ED.nii.gz'}: shape (23, 26, 4), but the image" in moved
    assert f"{made / 'p2_ED.nii.gz'}: label value 31 has no name" in valued
    assert "p3_ED.nii.gz: no prediction in" in missing
    assert "looked for p3_ED.nii.gz" in missing
    (line,) = [line for line in caught.value.done.warnings if "of no volume" in line]
    assert line == f"{made}: 1 label map of no volume: other.nii.gz"
    label = nibabel.load(made / "p0_ED.nii.gz")
    away = label.affine.copy()  # type: ignore[attr-defined]
    away[0, 3] += 3
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(label.dataobj), away), made / "p0_ED.nii.gz")  # type: ignore[attr-defined]
    with pytest.raises(CoopsegError, match=r"p0_ED\.nii\.gz: the label lies 3\.0 mm away"):
        evaluate_model(None, seen, tmp_path / "again", predictions=made)
    assert not (tmp_path / "again").exists()
    with pytest.raises(CoopsegError, match="holds results of a command with model = "):
        evaluate_model(None, seen, out, predictions=made, resume=True)  # the predictions have changed


def test_values_by_labels_by_a_file_beside_them_or_by_the_data_set(seen: Path, tmp_path: Path) -> None:
    """The same structures under other numbers, and a liver that the data set does not have."""
    turn = np.zeros(41, np.uint8)
    turn[[10, 20, 30]] = 3, 2, 1

    def other(data: np.ndarray) -> np.ndarray:
        changed = np.asarray(turn[data])
        changed[0, 0] = 9
        return changed

    for name in ("p0_ED", "p1_ED", "p2_ED", "p3_ED"):
        copy_label(seen, name, tmp_path / "liver" / f"{name}.nii.gz", other)
        copy_label(seen, name, tmp_path / "plain" / f"{name}.nii.gz", lambda data: turn[data])
    named = "LV=1,MYO=2,RV=3"
    found = evaluate_model(None, seen, tmp_path / "a", predictions=tmp_path / "liver", labels=named)
    assert {row["dice"] for row in found.rows} == {1.0}
    assert any("--labels does not name 9, taken as background" in line for line in found.warnings)
    with pytest.raises(CoopsegError, match="label value 1 has no name"):
        evaluate_model(None, seen, tmp_path / "b", predictions=tmp_path / "plain")
    ours = {
        "labels": [
            {"name": n, "value": v, "colour": [1, 2, 3]} for n, v in (("LV", 1), ("MYO", 2), ("RV", 3))
        ]
    }
    theirs = {"labels": {"background": 0, "LV": 1, "MYO": 2, "RV": 3}}
    for name, content in (("labels.json", ours), ("dataset.json", theirs)):
        (tmp_path / "plain" / name).write_text(json.dumps(content))
        found = evaluate_model(None, seen, tmp_path / name, predictions=tmp_path / "plain")
        assert {row["dice"] for row in found.rows} == {1.0}
        assert any("by the file beside them: LV=1, MYO=2, RV=3" in line for line in found.warnings)
        given = parse_label_names("RV=1,MYO=2,LV=3")
        swapped = load_stored(tmp_path / "plain", open_datasets(seen), labels=given)[1]
        assert "values of the predictions, by --labels: RV=1, MYO=2, LV=3" in swapped
        assert "the file beside the predictions has other values than --labels: LV=1, MYO=2, RV=3" in swapped
        (tmp_path / "plain" / name).unlink()
    for wrong in ('{"labels": [1]}', '{"labels": [{"name": "LV", "value": 1e999}]}', "[]", "{}"):
        (tmp_path / "plain" / "labels.json").write_text(wrong)
        with pytest.raises(CoopsegError, match=r"labels\.json: cannot be read"):
            evaluate_model(None, seen, tmp_path / "c", predictions=tmp_path / "plain")


def test_no_file_is_taken_twice_and_none_at_random(seen: Path, tmp_path: Path) -> None:
    (dataset,) = open_datasets(seen)
    copies = replace(
        dataset, name="copies", items=tuple(replace(r, image=r.label or r.image) for r in dataset.items)
    )
    made = tmp_path / "made"
    copy_label(seen, "p0_ED", made / "p0_ED.nii.gz")
    with pytest.raises(
        CoopsegError, match=r"could be of .*; put the label maps of each data set into a folder"
    ):
        load_stored(made, [dataset, copies])
    copy_label(seen, "p0_ED", made / "copies" / "p0_ED.nii.gz")
    subject, lines = load_stored(made, [dataset, copies])
    assert lines == [
        "values of the predictions, by the data set: RV=10, MYO=20, LV=30; --labels names others"
    ]
    assert subject.recall
    assert [subject.recall(each, each.items[0])[0]["FTN"].max() for each in (dataset, copies)] == [3, 3]
    copy_label(seen, "p0_ED", made / "more" / "p0_ED.nii.gz")
    with pytest.raises(CoopsegError, match=r"could be the prediction of p0_ED, and so could .*; leave one"):
        load_stored(made, [dataset, copies])
    with pytest.raises(CoopsegError, match="no such folder"):
        load_stored(tmp_path / "gone", [dataset])
    with pytest.raises(CoopsegError, match=r"holds no \.nii"):
        load_stored(seen.parent / "code", [dataset])


def test_frames_of_one_file(seen: Path, tmp_path: Path) -> None:
    """A label map of all frames, or one of a frame that is called as the volume."""
    label = nibabel.load(seen / "labels" / "p0_ED.nii.gz")
    data = np.asanyarray(label.dataobj)  # type: ignore[attr-defined]
    frames = np.stack([data * 0, data, np.roll(data, 1, axis=1)], axis=3)
    for folder in ("whole", "made"):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(frames, label.affine), tmp_path / folder / "p.nii.gz")  # type: ignore[attr-defined]
    (dataset,) = open_datasets(seen)
    image = tmp_path / "whole" / "p.nii.gz"
    items = tuple(ScanRef("q", image, image, phase, frame=frame) for phase, frame in (("ED", 1), ("ES", 2)))
    moving = Dataset("moving", tmp_path, "folder", dataset.labels, items)
    found = evaluate_model(None, moving, tmp_path / "out", predictions=tmp_path / "made", pictures=False)
    assert {row["dice"] for row in found.rows} == {1.0}
    (tmp_path / "made" / "p.nii.gz").unlink()
    copy_label(seen, "p0_ED", tmp_path / "made" / "q_ED_seg.nii.gz")
    with pytest.raises(PartlyDone, match="1 of 2") as caught:
        evaluate_model(None, moving, tmp_path / "again", predictions=tmp_path / "made", pictures=False)
    assert {row["dice"] for row in caught.value.done.rows} == {1.0}


def test_predictions_are_mended_before_they_are_scored(seen: Path, tmp_path: Path) -> None:
    def add_a_piece(data: np.ndarray) -> np.ndarray:
        changed = data.copy()
        changed[0, 0, 1] = 10
        return changed

    for number in range(4):
        copy_label(seen, f"p{number}_ED", tmp_path / "made" / f"p{number}_ED.nii.gz", add_a_piece)
    as_made, mended = (
        evaluate_model(None, seen, tmp_path / str(anatomy), predictions=tmp_path / "made", anatomy=anatomy)
        for anatomy in (False, True)
    )
    assert any(row["dice"] < 1 for row in as_made.rows)
    assert {row["dice"] for row in mended.rows} == {1.0}
    assert any("anatomy: removed 1 loose piece of RV, " in line for line in mended.warnings)
    records = [json.loads((tmp_path / str(each) / "evaluation.json").read_text()) for each in (False, True)]
    assert [record["anatomy"] for record in records] == [None, "largest pieces, holes, LV within myocardium"]
