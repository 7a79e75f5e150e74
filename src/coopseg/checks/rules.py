"""Lists the rules of `coopseg validate`, and holds what a validation found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from coopseg.errors import CoopsegError
from coopseg.scans.geometry import POSSIBLE_PIXEL, POSSIBLE_SLICE, USUAL_PIXEL, USUAL_SLICE
from coopseg.text import Json

Severity = Literal["error", "warning"]

# Cosine of the angle between two axes that should be square. The rounding of headers stays below 1e-4; at
# 1e-3 the far end of a stack 100 mm high has moved by 0.1 mm, and tools that need square axes refuse it.
SHEAR = 1e-3
# Degrees. Short-axis planes of patients differ by up to 30; another view, or a header that lost its
# direction, differs more.
FACING = 45
# Facing is compared only if this share of the scans agrees; otherwise there is no plane to differ from.
AGREEING = 0.75
# Percentiles between which intensities are scaled, the default of the setting cases.percentiles.
CLIP = (2.0, 98.0)


@dataclass(frozen=True)
class Rule:
    """Describes one thing that can be wrong.

    severity: "error" if training or evaluation would fail or be wrong, "warning" if someone should look.
    means: what was found when the rule is broken. why: what follows from it. do: the advice if the finding
    has none more exact.
    """

    name: str
    severity: Severity
    means: str
    why: str
    do: str


def _limits(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} to {limits[1]:g} mm"


_LIST = (
    # the data set
    Rule("layout", "error", "the folder or an entry of its table does not fit the layout",
         "its scans cannot be listed", "correct the entry, or name the layout with --layout"),
    Rule("missing-file", "error", "a file that the layout names is not there",
         "the volume cannot be read", "copy it again"),
    Rule("label-without-image", "error", "a label map has no image of its name",
         "usually a misspelt name, so that an image lacks its label",
         "add the image or remove the label"),
    Rule("duplicate-label", "error", "two label maps of one image, such as X_gt and X_seg",
         "which one is the truth is not known", "remove one, or list the right one in dataset.json"),
    Rule("passed-over", "warning", "what looks like a scan, label map, patient or entry is not used",
         "training and prediction go on without it", "put it where the layout expects it, or take it away"),
    Rule("labels-contradicted", "warning",
         "--labels gives a structure another value than the data set itself does",
         "classes may be swapped", "leave --labels out, unless the data set is wrong"),
    Rule("duplicate-case", "error", "the same patient and phase twice, as in training/ and testing/",
         "one would overwrite the other, or be tested on what it was trained on", "remove one"),
    Rule("patient-in-two-folders", "warning", "volumes of one patient name lie in several folders",
         "two persons with one name, or one person in training and test of other tools",
         "rename one if they are two persons"),
    Rule("patients-alike", "warning",
         "patients whose names differ in a last short number, letter or view alone, as of visits",
         "a split by patient may train on a person and test on the same one",
         'keep them in one part of a --split file, or give them one "patient" in the items of dataset.json'),
    # a file
    Rule("unreadable", "error", "a file that is no NIfTI file, damaged, or not to be opened",
         "the volume cannot be read", "export or copy it again"),
    Rule("truncated", "error", "a file that ends before its header says",
         "some readers fill the rest with zeros", "copy it again"),
    Rule("dimensions", "error",
         "not 2 to 4 dimensions, 4-D where one volume is wanted, or a frame that is not there",
         "the volume cannot be found in the file", "export one 3-D volume a file"),
    Rule("affine", "error", "an affine that is singular or not finite",
         "neither sizes nor directions are known", "export the scan again"),
    Rule("spacing-extreme", "error",
         f"pixels outside {_limits(POSSIBLE_PIXEL)} or slices outside {_limits(POSSIBLE_SLICE)} apart",
         "units other than mm; resampled, nothing or far too much is left",
         "export it again with its spacing in mm"),
    Rule("spacing-unusual", "warning",
         f"pixels outside {_limits(USUAL_PIXEL)} or slices outside {_limits(USUAL_SLICE)} apart",
         "perhaps centimetres, or a header that lost its spacing", "check it against the scanner's"),
    Rule("forms-disagree", "warning", "a header whose sform and qform disagree",
         "other tools may see the scan elsewhere, turned or in another size",
         "check the scan against its neighbours; export it again if it is wrong"),
    Rule("orientation", "warning",
         f"slices stacked along another axis than the last, facing over {FACING} degrees away from most, "
         "or an identity affine",
         "slices may be cut along a wrong axis or seen turned",
         "look at the scan; set cases.slice_axis if the axis is wrong"),
    Rule("shear", "warning", f"axes that are not square (cosine above {SHEAR:g})",
         "distances are right here, but other tools refuse or distort such a file",
         "nothing for coopseg; resample it for tools that refuse it"),
    # an image
    Rule("nan", "error", "an image with NaN or infinity", "every loss would become NaN",
         "replace them and export again"),
    Rule("label-as-image", "warning", "an image of at most ten distinct values, all whole numbers",
         "it is most likely a label map in the place of a scan", "give the image"),
    Rule("other-modality", "warning",
         "CT in Hounsfield units though intensities are scaled by percentiles, or MR though cases.window is "
         "for CT",
         "most of the range is air, or most of the image is white", "give --adapt, or set cases.window"),
    Rule("constant", "error",
         f"an image of one value throughout, or equal at percentiles {CLIP[0]:g} and {CLIP[1]:g}",
         "scaled to [0, 1] it is blank", "export it again or leave it out"),
    Rule("constant-slice", "warning", "an image with slices of one value throughout",
         "padding, or slices that were lost", "look at them; remove padding or export again"),
    Rule("not-normalised", "error", "an image said to be normalised with values outside [0, 1]",
         "it cannot be prepared", 'scale it to [0, 1] or remove "normalised"'),
    Rule("identical-images", "error", "two patients have the same voxels",
         "training sees what it is tested on", "keep one of the two patients"),
    Rule("repeated-image", "warning", "two volumes of one patient, such as ED and ES, have the same voxels",
         "no leak, as a patient is never divided, but one of them is the wrong phase",
         "check the frame numbers"),
    # a label map
    Rule("label-missing", "error", "no label map, though the patient is not left out by a split",
         "it can be neither trained on nor tested",
         "add it, or name only labelled patients in a --split file"),
    Rule("label-values", "error", "a label map whose values are no integers, or far too many",
         "it is an image, or was resampled linearly", "export the labels as drawn"),
    Rule("grid", "error", "image and label differ in shape, or in place by more than half a voxel",
         "labels would lie beside what they name", "give the label drawn on this image"),
    Rule("label-unnamed", "error", "a label value without a name", "what it means is not known",
         "name it with --labels, or correct the label map"),
    Rule("names-missing", "warning", "nothing names the label values of the data set",
         "a model that knows them as label1 cannot be scored on data that calls them LV",
         "name them with --labels LV=1,... or in dataset.json"),
    Rule("label-empty", "error", "a label map that holds background alone",
         "it would teach that nothing is there; often the wrong frame", "draw it, or leave the case out"),
    Rule("class-absent", "warning", "a label map without one of the classes",
         "forgotten, or not within this volume", "look at it; nothing to do where it is right"),
    Rule("class-missing", "error", "a class that no label map of the data set holds",
         "it cannot be learned, and its Dice of two empty masks is 1",
         "check the names of the values, or leave the class out"),
    Rule("crop-cuts", "warning", "the crop leaves out more than 0.1 % of the pixels of a class",
         "what lies outside can be neither learned nor segmented",
         "set a larger cases.size or cases.spacing, or give --adapt to validate and train"),
    # a split
    Rule("split", "error", "a split that cannot be read or drawn", "training cannot start",
         "correct the file"),
    Rule("split-overlap", "error", "a patient in two parts of a split",
         "training sees what it is tested on", "keep each in one part"),
    Rule("split-unknown", "error", "a split names patients that the data set lacks",
         "training or testing stops", "add them or correct the names"),
    Rule("split-untested", "warning", "test patients of a published split that the data set lacks",
         "training works, testing stops", "add them or choose another split to test"),
    Rule("split-empty", "error", "a split without training or validation patients",
         "training cannot start", "add some"),
)  # fmt: skip

RULES: dict[str, Rule] = {rule.name: rule for rule in _LIST}


@dataclass(frozen=True)
class Finding:
    """Says which rule is broken and where.

    file: relative to the data set, "" for the data set as a whole; a split file as it was given.
    case: id of the volume, the patient if a file holds several volumes, "" if it concerns neither.
    rule: a name of `RULES`. found: what is wrong there. do: what to do about it.
    """

    file: str
    case: str
    rule: str
    severity: Severity
    found: str
    do: str


@dataclass(frozen=True)
class Fault:
    """Says which rule is broken before it is known where. do: advice better than the rule's own."""

    rule: str
    found: str
    do: str = ""

    def at(self, file: str = "", case: str = "") -> Finding:
        """Returns the finding at a place."""
        rule = RULES[self.rule]
        return Finding(file, case, rule.name, rule.severity, self.found, self.do or rule.do)


@dataclass(frozen=True)
class Report:
    """Holds all findings on a data set, errors first, then in the data set's order.

    layout: "" if the data set could not be opened. patients, volumes: how many were looked at.
    unlabelled: test images without labels, which only `predict` can use. crop: what the crop and the
    intensity rule lose, in one line; "" without labels. adapted: what was chosen from the scans, if wanted.
    """

    data: Path
    layout: str
    patients: int
    volumes: int
    findings: tuple[Finding, ...]
    unlabelled: int = 0
    crop: str = ""
    adapted: str = ""

    @property
    def errors(self) -> int:
        """Counts the findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Counts the findings that are warnings."""
        return len(self.findings) - self.errors

    def as_dict(self) -> Json:
        """Returns a dict for JSON."""
        return {
            "data": str(self.data),
            "layout": self.layout,
            "patients": self.patients,
            "volumes": self.volumes,
            "unlabelled": self.unlabelled,
            "crop": self.crop,
            "adapted": self.adapted,
            "findings": [asdict(finding) for finding in self.findings],
            "errors": self.errors,
            "warnings": self.warnings,
        }


def relative(path: Path, root: Path) -> str:
    """Formats a path with forward slashes, relative to `root` if it lies below it."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def fault_of(error: CoopsegError, *, otherwise: str, root: Path) -> tuple[str, Fault]:
    """Splits "PATH: what was found; what to do" into file and fault. otherwise: the rule if it has none."""
    text = str(error).removeprefix(f"{root}/").replace(f" {root}/", " ")
    place, _, rest = text.partition(": ")
    found, _, do = rest.partition("; ")
    return place, Fault(error.rule or otherwise, found, do)
