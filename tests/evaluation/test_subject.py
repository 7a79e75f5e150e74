"""What is evaluated: its domain, its warnings, and any function from an image to a label map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coopseg.cases.splits import Split
from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError
from coopseg.evaluation.run import evaluate_subject, open_datasets
from coopseg.evaluation.subject import find_domain, load_target, wrap_callable
from coopseg.inference.model import LAST, load_model, save_model
from coopseg.inference.predictor import Predictor
from coopseg.networks.cooperative import Networks
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef

NAMES = ("background", "RV", "MYO", "LV")
IMAGE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_domains() -> None:
    def dataset(*refs: tuple[str, int]) -> Dataset:
        items = tuple(ScanRef(patient, Path("x"), copy=copy) for patient, copy in refs)
        return Dataset("D", Path("x"), "folder", Labels(NAMES, (0, 1, 2, 3)), items)

    trained = Split("s", ("a",), ("b",), ("c",))
    assert find_domain(dataset(("c", 0), ("z", 0)), trained) == "intra"
    assert find_domain(dataset(("c", 1), ("c", 2)), trained) == "corrupted"
    assert find_domain(dataset(("z", 1)), None) == "corrupted"
    assert find_domain(dataset(("z", 0)), trained) == "other"
    assert find_domain(dataset(("c", 0)), None) == "other"  # nobody knows


def given(predict: Any) -> np.ndarray:
    """What comes of a callable for one scan."""
    scan = Scan(IMAGE, np.diag([1.5, 1.5, 10, 1.0]), Path("scan.nii.gz"))
    subject = wrap_callable("mine", predict, target="m:f", classes=NAMES)
    assert subject.predict
    return subject.predict(scan, False)["FTN"]


def test_values_mean_classes_in_their_order() -> None:
    def predict(image: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        assert (image.dtype, image.flags.c_contiguous) == (np.dtype(np.float32), True)
        np.testing.assert_array_equal(image, IMAGE)
        np.testing.assert_array_equal(spacing, [1.5, 1.5, 10])
        labels = image.astype(np.int64) % 4
        image[:] = 0  # its own copy
        return labels

    found = given(predict)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, IMAGE.astype(int) % 4)
    assert IMAGE.max() == 23


def test_values_mean_what_its_labels_say_and_a_class_is_made_once() -> None:
    class Net:
        labels = {"left ventricle": 1, "MYO": 2, "rv": 30}  # noqa: RUF012

        def __call__(self, image: np.ndarray, spacing: np.ndarray) -> np.ndarray:
            return np.asarray(np.array([0, 1, 2, 30])[image.astype(int) % 4])

    np.testing.assert_array_equal(given(Net), np.array([0, 3, 2, 1])[IMAGE.astype(int) % 4])


def labelled(labels: Any) -> Callable[..., Any]:
    def predict(image: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        return np.zeros(image.shape, int)

    predict.labels = labels  # type: ignore[attr-defined]
    return predict


@pytest.mark.parametrize(
    ("predict", "says"),
    [
        (lambda image, spacing: image[..., 0].astype(int), r"gave shape \(2, 3\), the image has \(2, 3, 4\)"),
        (lambda image, spacing: image / 100, "gave float32; give integers"),
        (lambda image, spacing: np.full(image.shape, 4), "gave label 4, known are 0, 1, 2, 3"),
        (labelled({"LV": 1}), "its labels lack RV, MYO; name every class"),
        (labelled({"LV": 1, "liver": 2}), "label 'liver' is not among background, RV, MYO, LV"),
        (labelled(["LV"]), "labels is .* write it as"),
        (3, "m:f cannot be called"),
    ],
)
def test_what_is_refused(predict: Any, says: str) -> None:
    with pytest.raises(CoopsegError, match=says):
        given(predict)


def test_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "my_net_of_this_test.py").write_text("def predict(image, spacing):\n    return image > 7\n")
    how: dict[str, Any] = {"classes": NAMES, "device": "cpu", "precision": "32"}
    subject = load_target("mine", "my_net_of_this_test:predict", **how)
    assert (subject.names, subject.head, subject.in_turn) == (NAMES, "FTN", True)
    assert subject.predict
    np.testing.assert_array_equal(subject.predict(Scan(IMAGE, np.eye(4)), True)["FTN"], IMAGE > 7)
    (tmp_path / "net.onnx").write_bytes(b"of another program")
    for target, says in {
        "net.onnx": r"not written by `coopseg export`; wrap it in a callable.* --predictor NAME=mine:segment",
        "my_net_of_this_test:nothing": "cannot be imported",
        "gone": "'gone' is not there",
        ".": "holds no last.safetensors",
    }.items():
        with pytest.raises(CoopsegError, match=says):
            load_target("mine", target, **how)


@pytest.mark.parametrize("k", [None, 6.0])
def test_a_run_folder_predicts_as_its_model_says(tmp_path: Path, k: float | None) -> None:
    settings = resolve_settings(
        overrides={"network.width": 1, "cases.size": (32, 32), "prediction.scan_statistics": k}
    )
    networks = Networks(classes=len(NAMES), **dict(settings.network))
    save_model(tmp_path / LAST, networks.state_dict(), settings=settings, names=NAMES)
    subject = load_target("mine", str(tmp_path), classes=NAMES, device="cpu", precision="32")
    assert subject.predict
    assert subject.facts.scan_statistics == k
    scan = Scan(IMAGE, np.diag([1.5, 1.5, 10, 1.0]))
    expected = Predictor.from_model(load_model(tmp_path), scan_statistics="off" if k is None else k)(scan)
    np.testing.assert_array_equal(subject.predict(scan, False)["FTN"], expected["FTN"])


def test_a_perfect_one_scores_one(phantom: dict[str, Path], tmp_path: Path) -> None:
    """It looks the answer up, in values of its own, and so shows that both maps meet by name."""
    (dataset,) = open_datasets(phantom["acdc"])
    from coopseg.scans.load import load_label, load_scan

    own = dict(zip(dataset.labels.names, (0, 7, 8, 9), strict=True))
    answers = {}
    for ref in dataset.items[:2]:
        label = load_label(ref)
        assert label is not None
        lookup = np.zeros(max(dataset.labels.values) + 1, int)
        lookup[list(dataset.labels.values)] = [own[name] for name in dataset.labels.names]
        answers[load_scan(ref).data.tobytes()] = lookup[label.data]

    def predict(image: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        order = image if image.tobytes() in answers else np.asfortranarray(image)
        return np.asarray(answers[order.tobytes()])

    predict.labels = {name: own[name] for name in dataset.labels.foreground}  # type: ignore[attr-defined]
    subject = wrap_callable("perfect", predict, target="m:f", classes=dataset.labels.names)
    from dataclasses import replace

    found = evaluate_subject(
        subject, [replace(dataset, items=dataset.items[:2])], tmp_path / "out", workers=2
    )
    assert {row["dice"] for row in found.rows} == {1.0}
    assert {row["head"] for row in found.rows} == {"FTN"}
    assert len(found.rows) == 6
    (warning,) = found.warnings
    assert warning == "m:f: made elsewhere, so whether it was trained on these patients is unknown"
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert record["model"] == {"path": "m:f", "sha256": None, "names": list(dataset.labels.names)}


def test_how_values_are_read_is_said_where_the_predictor_does_not() -> None:
    subject = wrap_callable(
        "mine", lambda image, spacing: image, target="m:f", classes=("background", "RV", "LV")
    )
    assert subject.warnings([])[0] == (
        "predictor mine: its values are taken for RV=1, LV=2; its attribute `labels` can say otherwise"
    )
