"""For every rule a data set with exactly that fault, which is found, and nothing else is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import coopseg
from coopseg.cases.splits import NAMED
from coopseg.checks.rules import CLIP, RULES, Fault, Finding, Report, fault_of, relative
from coopseg.checks.validate import validate_dataset
from coopseg.config.settings import CaseSettings
from coopseg.errors import CoopsegError

IMAGE, LABEL = "images/c.nii.gz", "labels/c.nii.gz"
LABELS = {"background": 0, "LV": 1, "MYO": 2, "RV": 3}
AFFINE = np.diag([-1.5, -1.5, 8, 1.0])
BREAKS: dict[str, Callable[..., str]] = {}


def breaks(rule: str) -> Callable[..., Callable[..., str]]:
    """Registers what breaks a rule; it returns the file that the finding is to name."""

    def register(spoil: Callable[..., str]) -> Callable[..., str]:
        BREAKS[rule] = spoil
        return spoil

    return register


class Spoiler:
    """The clean data set, its files as arrays, and the splits to compare it with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.splits: list[str] = []
        self.labels: str | None = None

    def read(self, file: str) -> np.ndarray:
        return np.asarray(nib.Nifti1Image.from_filename(self.root / file).dataobj)

    def write(self, file: str, data: np.ndarray, affine: np.ndarray = AFFINE) -> str:
        (self.root / file).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(data, affine), self.root / file)
        return file

    def move(self, affine: np.ndarray) -> str:
        """Give an image and its label another affine."""
        self.write(LABEL, self.read(LABEL), affine)
        return self.write(IMAGE, self.read(IMAGE), affine)

    def describe(self, **entries: object) -> str:
        (self.root / "dataset.json").write_text(json.dumps({"labels": LABELS} | entries))
        return "dataset.json"

    def items(self) -> list[dict[str, str]]:
        names = [path.name for path in sorted((self.root / "images").iterdir())]
        return [{"image": f"images/{name}", "label": f"labels/{name}"} for name in names]

    def split(self, text: str) -> str:
        (self.root / "split.yaml").write_text(text)
        self.splits = [str(self.root / "split.yaml")]
        return self.splits[0]


@breaks("layout")
def _(data: Spoiler) -> str:
    return data.describe(items=[*data.items(), {"image": IMAGE, "pateint": "c"}])


@breaks("missing-file")
def _(data: Spoiler) -> str:
    data.describe(items=[*data.items(), {"image": "images/none.nii.gz"}])
    return "images/none.nii.gz"


@breaks("label-without-image")
def _(data: Spoiler) -> str:
    return data.write("labels/e.nii.gz", data.read(LABEL))


@breaks("duplicate-label")
def _(data: Spoiler) -> str:
    return data.write("labels/c.nii", data.read(LABEL))


@breaks("passed-over")
def _(data: Spoiler) -> str:
    return data.write("images/more/e.nii.gz", data.read(IMAGE) / 2)


@breaks("labels-contradicted")
def _(data: Spoiler) -> str:
    data.labels = "LV=3,MYO=2,RV=1"
    return ""


@breaks("duplicate-case")
def _(data: Spoiler) -> str:
    image, label = data.write("images/again.nii.gz", data.read(IMAGE) / 2), LABEL
    items = [item for item in data.items() if item["image"] != image]
    data.describe(items=[*items, {"image": image, "label": label, "patient": "b"}])
    return "images/b.nii.gz"  # the later by file name


@breaks("patient-in-two-folders")
def _(data: Spoiler) -> str:
    for part, seed in (("Tr", 0.5), ("Ts", 0.25)):
        phase = "ED" if part == "Tr" else "ES"
        data.write(f"images{part}/x_{phase}_0000.nii.gz", seed * data.read(IMAGE))
        data.write(f"labels{part}/x_{phase}.nii.gz", data.read(LABEL))
    return ""


@breaks("patients-alike")
def _(data: Spoiler) -> str:
    for view in ("SA", "LA"):
        data.write(f"images/e_{view}.nii.gz", data.read(IMAGE) / (2 if view == "SA" else 3))
        data.write(f"labels/e_{view}.nii.gz", data.read(LABEL))
    return ""


@breaks("unreadable")
def _(data: Spoiler) -> str:
    (data.root / IMAGE).write_bytes(b"this is no scan" * 100)
    return IMAGE


@breaks("truncated")
def _(data: Spoiler) -> str:
    content = (data.root / IMAGE).read_bytes()
    (data.root / IMAGE).write_bytes(content[: len(content) * 2 // 3])
    return IMAGE


@breaks("dimensions")
def _(data: Spoiler) -> str:
    image = data.read(IMAGE)
    return data.write(IMAGE, np.stack([image, image / 2], axis=-1))


@breaks("affine")
def _(data: Spoiler) -> str:
    image = nib.Nifti1Image(data.read(IMAGE), AFFINE)
    content = bytearray(image.to_bytes())
    content[280:284] = np.float32(np.nan).tobytes()  # srow_x[0], by the standard
    (data.root / IMAGE).unlink()
    (data.root / "images/c.nii").write_bytes(content)
    return "images/c.nii"


@breaks("spacing-extreme")
def _(data: Spoiler) -> str:
    return data.move(np.diag([-0.0015, -0.0015, 0.008, 1]))  # metres


@breaks("spacing-unusual")
def _(data: Spoiler) -> str:
    return data.move(np.diag([-0.15, -0.15, 0.8, 1]))  # centimetres


@breaks("orientation")
def _(data: Spoiler) -> str:
    return data.move(np.diag([8, -1.5, -1.5, 1.0]))


@breaks("forms-disagree")
def _(data: Spoiler) -> str:
    image = nib.Nifti1Image(data.read(IMAGE), AFFINE)
    image.set_qform(AFFINE, code=1)
    image.set_sform(np.diag([0, -1.5, 8, 1]), code=1)
    nib.save(image, data.root / IMAGE)
    return IMAGE


@breaks("shear")
def _(data: Spoiler) -> str:
    affine = AFFINE.copy()
    affine[0, 2] = 0.1
    return data.move(affine)


@breaks("nan")
def _(data: Spoiler) -> str:
    image = data.read(IMAGE).copy()
    image[3, 3, 1] = np.nan
    return data.write(IMAGE, image)


@breaks("label-as-image")
def _(data: Spoiler) -> str:
    return data.write(IMAGE, data.read(LABEL))


@breaks("other-modality")
def _(data: Spoiler) -> str:
    image = np.random.default_rng(9).integers(-200, 300, data.read(IMAGE).shape, np.int16)
    image[:2] = -1000  # air
    return data.write(IMAGE, image)


@breaks("constant")
def _(data: Spoiler) -> str:
    return data.write(IMAGE, np.full_like(data.read(IMAGE), 0.5))


@breaks("constant-slice")
def _(data: Spoiler) -> str:
    image = data.read(IMAGE).copy()
    image[..., 3] = 0
    return data.write(IMAGE, image)


@breaks("not-normalised")
def _(data: Spoiler) -> str:
    data.describe(normalised=True)
    return data.write(IMAGE, 2 * data.read(IMAGE))


@breaks("identical-images")
def _(data: Spoiler) -> str:
    (data.root / IMAGE).unlink()
    return data.write("images/c.nii", data.read("images/b.nii.gz"))  # another file with the same voxels


@breaks("repeated-image")
def _(data: Spoiler) -> str:
    return data.write("images/a_ES.nii.gz", data.read("images/a_ED.nii.gz"))


@breaks("label-missing")
def _(data: Spoiler) -> str:
    (data.root / LABEL).unlink()
    return IMAGE


@breaks("label-values")
def _(data: Spoiler) -> str:
    return data.write(LABEL, data.read(LABEL) * np.float32(1.3))


@breaks("grid")
def _(data: Spoiler) -> str:
    return data.write(LABEL, data.read(LABEL)[:-1])


@breaks("label-unnamed")
def _(data: Spoiler) -> str:
    label = data.read(LABEL).copy()
    label[0] = 9
    return data.write(LABEL, label)


@breaks("names-missing")
def _(data: Spoiler) -> str:
    (data.root / "dataset.json").unlink()
    return ""


@breaks("label-empty")
def _(data: Spoiler) -> str:
    return data.write(LABEL, np.zeros_like(data.read(LABEL)))


@breaks("class-absent")
def _(data: Spoiler) -> str:
    return data.write(LABEL, data.read(LABEL) % 3)


@breaks("class-missing")
def _(data: Spoiler) -> str:
    data.describe(labels=LABELS | {"PA": 4})
    return ""


@breaks("crop-cuts")
def _(data: Spoiler) -> str:
    label = np.zeros((400, 10, 4), np.uint8)  # 600 mm wide, of which the crop keeps 262
    label[:2], label[4:6], label[200:202] = 1, 2, 3
    data.write(IMAGE, np.random.default_rng(9).random(label.shape, np.float32))
    data.write(LABEL, label)
    return ""


@breaks("split")
def _(data: Spoiler) -> str:
    return data.split("train: [a, b\n")


@breaks("split-overlap")
def _(data: Spoiler) -> str:
    return data.split("{train: [a, b], validate: [b, c], test: [d]}")


@breaks("split-unknown")
def _(data: Spoiler) -> str:
    return data.split("{train: [a, b, zorro], validate: [c], test: [d]}")


@breaks("split-untested")
def _(data: Spoiler) -> str:
    train, validate, _ = NAMED["acdc-10-A"]
    for number, patient in enumerate((*train, *validate), start=2):
        data.write(f"images/{patient}.nii.gz", data.read(IMAGE) / number)
        data.write(f"labels/{patient}.nii.gz", data.read(LABEL))
    data.splits = ["acdc-10-A"]
    return "acdc-10-A"


@breaks("split-empty")
def _(data: Spoiler) -> str:
    return data.split("{train: [a, b], validate: [], test: [c, d]}")


@pytest.mark.parametrize("rule", RULES)
def test_a_data_set_with_one_fault(clean: Path, rule: str) -> None:
    data = Spoiler(clean)
    file = BREAKS[rule](data)
    report = validate_dataset(clean, splits=data.splits, labels=data.labels)
    assert {finding.rule for finding in report.findings} == {rule}
    assert {finding.file for finding in report.findings} == {file}
    assert {finding.severity for finding in report.findings} == {RULES[rule].severity}
    for finding in report.findings:
        assert finding.found
        assert finding.do
        assert str(clean) not in finding.found  # files are named as in the data set


def test_the_faults_are_those_of_the_table() -> None:
    assert set(BREAKS) == set(RULES)
    assert {rule.severity for rule in RULES.values()} == {"error", "warning"}


def test_readers_name_rules_that_exist() -> None:
    """A rule misspelt where an error is raised would end the validation it was meant for."""
    source = Path(coopseg.__file__).parent
    named = {name for file in source.rglob("*.py") for name in re.findall(r'rule="(.+?)"', file.read_text())}
    assert {"truncated", "nan", "grid"} <= named <= set(RULES)


def test_blank_is_what_preparation_makes_blank() -> None:
    assert CaseSettings().percentiles == CLIP


ROOT = Path("/data/set")


def test_a_report_survives_json() -> None:
    findings = (Fault("nan", "3 of 4").at("a.nii", "a"), Fault("shear", "bent", "unbend").at())
    report = Report(ROOT, "acdc", 1, 2, findings)
    content = json.loads(json.dumps(report.as_dict()))
    assert list(content) == [
        "data", "layout", "patients", "volumes", "unlabelled", "crop", "adapted", "findings", "errors",
        "warnings",
    ]  # fmt: skip
    assert tuple(Finding(**entry) for entry in content["findings"]) == findings
    assert (content["data"], content["errors"], content["warnings"]) == ("/data/set", 1, 1)
    assert content["findings"][0]["do"] == "replace them and export again"  # the rule's own advice
    assert content["findings"][1]["do"] == "unbend"


@pytest.mark.parametrize(
    ("message", "place", "fault"),
    [
        ("/data/set/a.nii: is bad; mend it", "a.nii", Fault("layout", "is bad", "mend it")),
        ("/data/set: empty; fill it; or not", "/data/set", Fault("layout", "empty", "fill it; or not")),
        ("/data/set/a.nii: unlike /data/set/b.nii", "a.nii", Fault("layout", "unlike b.nii", "")),
        ("/other/a.nii: gone", "/other/a.nii", Fault("layout", "gone")),
    ],
)
def test_an_error_becomes_a_fault(message: str, place: str, fault: Fault) -> None:
    assert fault_of(CoopsegError(message), otherwise="layout", root=ROOT) == (place, fault)


def test_an_error_may_bring_its_rule() -> None:
    _, fault = fault_of(CoopsegError("a: b; c", rule="nan"), otherwise="layout", root=ROOT)
    assert fault == Fault("nan", "b", "c")


def test_files_are_named_as_in_the_data_set() -> None:
    assert relative(ROOT / "x" / "a.nii", ROOT) == "x/a.nii"
    assert relative(Path("/other/a.nii"), ROOT) == "/other/a.nii"
