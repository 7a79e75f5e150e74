"""What users of such programs complain about in public, rebuilt small: no verb is silently wrong on it.

Every case writes a data set with nibabel and the standard library alone, then runs the verbs themselves.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import struct
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SIDE, PIXEL, THICK = 48, 3.6, 8.0
NAMES = {"background": 0, "LV": 1, "MYO": 2, "RV": 3}
PEOPLE = tuple(f"case{number:02d}" for number in range(1, 7))
TINY = (
    "--preset=cpu", "--method=standard", "--device=cpu", "--set=network.width=2", "--set=cases.size=[32,32]",
    "--set=cases.spacing=6", "--set=training.steps=1", "--set=training.validations=1",
)  # fmt: skip


# --- what everything is made of ---


def heart(seed: int = 0, slices: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Makes an image and its label map, (SIDE, SIDE, slices): a disc in a ring beside another, with noise."""
    rng = np.random.default_rng(seed)
    x, y = np.indices((SIDE, SIDE)) - SIDE / 2
    label = np.zeros((SIDE, SIDE, slices), np.uint8)
    for z in range(slices):
        radius = SIDE / 9 * (1 - 0.05 * z)
        label[np.hypot((x + 2.1 * radius) / 1.2, y) < 1.1 * radius, z] = 3
        label[np.hypot(x, y) < 1.6 * radius, z] = 2
        label[np.hypot(x, y) < radius, z] = 1
    image = 300 + np.array([0, 260, 40, 240])[label] + rng.normal(0, 12, label.shape)
    return image.astype(np.int16), label


def affine(*spacing: float, scale: float = 1.0) -> np.ndarray:
    x, y, z = spacing or (PIXEL, PIXEL, THICK)
    matrix = np.diag([-x, -y, z, 1.0])
    matrix[:3, 3] = 80, 80, -20
    matrix[:3] *= scale
    return matrix


def save(path: Path, data: np.ndarray, matrix: np.ndarray | None = None, units: str = "mm") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine() if matrix is None else matrix)
    image.header.set_xyzt_units(units)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    nib.save(image, path)
    return path


def describe(out: Path, **entries: Any) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "dataset.json").write_text(json.dumps({"labels": NAMES, **entries}))


def pairs(
    out: Path,
    names: tuple[str, ...] = PEOPLE,
    slices: int = 4,
    matrix: np.ndarray | None = None,
    units: str = "mm",
) -> None:
    """Writes images/NAME.nii.gz, labels/NAME.nii.gz and dataset.json."""
    for seed, name in enumerate(names):
        image, label = heart(seed, slices)
        save(out / f"images/{name}.nii.gz", image, matrix, units)
        save(out / f"labels/{name}.nii.gz", label, matrix, units)
    describe(out)


def patch(path: Path, *fields: tuple[Any, ...]) -> None:
    """Overwrites header bytes: (offset, struct format, values...)."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    for offset, form, *values in fields:
        struct.pack_into("<" + form, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


def every(out: Path) -> Iterator[Path]:
    yield from sorted(out.rglob("*.nii.gz"))


# --- the table ---


@dataclass(frozen=True)
class Verb:
    """Says how a verb must end on a case: exit code, text that it must print, and how many label maps.

    more: further words to type; the name of a file of the case stands for its path. control: the scores are
    those of the control, whose voxels are the same.
    """

    name: str
    code: int = 0
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    maps: int | None = None
    on: str = ""  # folder below the case; "" for all of it
    more: tuple[str, ...] = ()
    control: bool = False


def validate(*says: str, code: int = 0, never: tuple[str, ...] = (), on: str = "") -> Verb:
    return Verb("validate", code, says, never, on=on)


def train(
    *says: str, code: int = 0, never: tuple[str, ...] = (), on: str = "", more: tuple[str, ...] = ()
) -> Verb:
    return Verb("train", code, says, never, on=on, more=more)


def predict(
    *says: str, code: int = 0, maps: int | None = None, on: str = "", never: tuple[str, ...] = ()
) -> Verb:
    return Verb("predict", code, says, never, maps, on)


def evaluate(
    *says: str,
    code: int = 0,
    never: tuple[str, ...] = (),
    on: str = "",
    more: tuple[str, ...] = (),
    control: bool = False,
) -> Verb:
    return Verb("evaluate", code, says, never, None, on, more, control)


def corrupt(*says: str, code: int = 0, never: tuple[str, ...] = (), on: str = "") -> Verb:
    return Verb("corrupt", code, says, never, on=on)


# how the verbs end where nothing is to be said: a case names those that end otherwise
QUIET = (
    validate("nothing wrong", "6 patients"),
    train("4 training patients", never=("error:", "passed over", "left out")),
    predict(maps=6, never=("error:",)),
    evaluate(never=("error:", "passed over", "left out")),
    corrupt("1 data set of 6 volumes", never=("warning:",)),
)


def all_end(code: int, *says: str) -> tuple[Verb, ...]:
    """Says how every verb ends that reads a data set; predict takes any scans."""
    return validate(*says, code=1), *(verb(*says, code=code) for verb in (train, evaluate, corrupt))


@dataclass(frozen=True)
class Case:
    """Holds how to build a data set, and what the verbs must do with it."""

    build: Callable[[Path], None]
    verbs: tuple[Verb, ...]


CASES: list[Case] = []


def case(*verbs: Verb) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Registers a case for all five verbs; one that is not given ends as in QUIET."""
    given = {verb.name: verb for verb in verbs}

    def register(build: Callable[[Path], None]) -> Callable[[Path], None]:
        CASES.append(Case(build, tuple(given.get(verb.name, verb) for verb in QUIET)))
        return build

    return register


@case(evaluate(control=True))
def nothing_is_wrong(out: Path) -> None:
    pairs(out)


# the slice axis

NO_DATA_SET = "no data set recognised; looked for acdc: patient*/Info.cfg"


@case(train("4 training slices"))
def one_slice_of_its_true_thickness(out: Path) -> None:
    pairs(out, slices=1)


@case(*all_end(2, NO_DATA_SET), predict("3 label maps", maps=3, on="scans"))
def a_cine_of_one_slice(out: Path) -> None:
    """Three people; predicted frame by frame."""
    for seed in range(3):
        frames = [heart(seed + number, 1)[0] for number in (0, 10)]
        save(out / f"scans/cine{seed}.nii.gz", np.stack(frames, -1), affine(PIXEL, PIXEL, 1.0))


@case(
    validate("0 errors", never=("orientation",)), train("4 training slices"), predict(maps=6),
    evaluate(), corrupt("1 data set of 6 volumes"),
)  # fmt: skip
def one_slice_whose_third_spacing_is_1(out: Path) -> None:
    pairs(out, slices=1, matrix=affine(PIXEL, PIXEL, 1.0))


@case(validate("0 errors", never=("orientation",)), train("4 training slices"), predict(maps=6))
def files_of_two_dimensions(out: Path) -> None:
    pairs(out, slices=1, matrix=affine(PIXEL, PIXEL, 1.0))
    for path in every(out):
        patch(path, (40, "h", 2))


@case(validate("0 errors", never=("orientation",)), train("48 training slices"), predict(maps=6), corrupt())
def half_at_3_mm_half_at_1_5_mm(out: Path) -> None:
    pairs(out, PEOPLE[:3], 12, affine(1.8, 1.8, 3.0))
    pairs(out, PEOPLE[3:], 12, affine(1.8, 1.8, 1.5))
    for seed, name in enumerate(PEOPLE):  # no two patients have the same voxels
        save(out / f"images/{name}.nii.gz", heart(seed, 12)[0], affine(1.8, 1.8, 3.0 if seed < 3 else 1.5))


@case(
    validate("orientation", "along axis 0"), train("case06: slices are cut along axis 0"),
    predict("slices are cut along axis 0, those of the training lay along axis 2"),
    evaluate("slices are cut along axis 0, those of the training lay along axis 2"),
)  # fmt: skip
def slices_along_another_axis(out: Path) -> None:
    pairs(out)
    for kind in ("images", "labels"):
        stored = nib.Nifti1Image.from_filename(out / f"{kind}/case06.nii.gz")
        data = np.moveaxis(np.asarray(stored.dataobj), 2, 0)
        save(out / f"{kind}/case06.nii.gz", data, np.diag([THICK, PIXEL, PIXEL, 1.0]))


# what is not understood


@case(
    validate("missing-file", "images/case05.nii.gz", "labels/case06.nii.gz", code=1),
    train("a link to nothing, as are 3 more", code=2),
    predict("a link to nothing", "2 of 6 scans failed", code=1, maps=4),
    evaluate("a link to nothing", "2 of 6 volumes left out", "scores are of 4 of 6 patients", code=1),
    corrupt("a link to nothing", "2 of 6 scans failed", code=1),
)  # fmt: skip
def links_whose_content_was_not_fetched(out: Path) -> None:
    pairs(out)
    for name in PEOPLE[4:]:
        for kind in ("images", "labels"):
            path = out / kind / f"{name}.nii.gz"
            path.unlink()
            path.symlink_to("../.git/annex/objects/none.nii.gz")


@case(*all_end(2, NO_DATA_SET), predict(maps=2, on="work"))
def links_to_folders(out: Path) -> None:
    save(out / "work/p1/one.nii.gz", heart(0)[0])
    save(out / "archive/p2/two.nii.gz", heart(1)[0])
    (out / "work/p2").symlink_to(out / "archive/p2", target_is_directory=True)


@case(evaluate(control=True))
def suffixes_in_capitals(out: Path) -> None:
    pairs(out)
    for kind in ("images", "labels"):
        (out / kind / "case06.nii.gz").rename(out / kind / "CASE06.NII.GZ")


@case(
    validate("label-missing", "passed-over", "b.nrrd", "as are c.mha, d.img", code=1),
    train("no labels found beside its 1 scan", code=2), evaluate("a.nii.gz: volume a has no label", code=2),
    corrupt("a.nii.gz: volume a has no label", code=2), predict("3 passed over: another format (3)", maps=1),
)  # fmt: skip
def scans_in_other_formats(out: Path) -> None:
    save(out / "a.nii.gz", heart()[0])
    for name in ("b.nrrd", "c.mha", "d.img", "d.hdr", "notes.txt"):
        (out / name).write_bytes(b"something")


def acdc(out: Path, suffix: str = ".nii.gz", with_config: int = 6) -> None:
    for seed in range(6):
        folder = out / f"patient{seed + 1:03d}"
        for frame, other in ((1, 0), (9, 10)):
            image, label = heart(seed + other)
            save(folder / f"{folder.name}_frame{frame:02d}{suffix}", image)
            save(folder / f"{folder.name}_frame{frame:02d}_gt{suffix}", label)
        if seed < with_config:
            (folder / "Info.cfg").write_text("ED: 1\nES: 9\n")


@case(
    validate("passed-over", "patient005", "patient006", "without Info.cfg", "4 patients"),
    train("2 passed over: without Info.cfg (2)"), evaluate("2 passed over: without Info.cfg (2)"),
    corrupt("2 passed over: without Info.cfg (2)"), predict(maps=12),
)  # fmt: skip
def patients_without_info_cfg(out: Path) -> None:
    acdc(out, with_config=4)


@case(predict(maps=12), corrupt("1 data set of 12 volumes"))
def acdc_unpacked(out: Path) -> None:
    acdc(out, suffix=".nii")


def mnms(out: Path, suffixes: tuple[str, ...] = (".nii.gz",) * 6) -> None:
    rows = ["External code,VendorName,Vendor,Centre,ED,ES"]
    for seed, suffix in enumerate(suffixes):
        code = f"Q{seed}X{seed}"
        rows.append(f"{code},Acme,A,1,0,1")
        images, labels = zip(heart(seed), heart(seed + 10), strict=True)
        for mark, frames in (("", images), ("_gt", labels)):
            save(out / f"Training/Labeled/{code}/{code}_sa{mark}{suffix}", np.stack(frames, -1))
    (out / "table.csv").write_text("\n".join(rows) + "\n")


@case(corrupt("1 data set of 12 volumes"))
def mnms_unpacked(out: Path) -> None:
    mnms(out, (".nii",) * 6)


@case(corrupt("1 data set of 12 volumes"))
def mnms_partly_unpacked(out: Path) -> None:
    mnms(out, (".nii.gz",) * 4 + (".nii",) * 2)


ANOTHER_NAME = "lists Q0X0, and Q0X0_SA.nii.gz lies there; correct"


@case(*all_end(2, ANOTHER_NAME), validate("missing-file", "Q0X0", "Q0X0_SA.nii.gz lies there", code=1))
def a_row_whose_image_has_another_name(out: Path) -> None:
    mnms(out)
    folder = out / "Training/Labeled/Q0X0"
    (folder / "Q0X0_sa.nii.gz").rename(folder / "Q0X0_SA.nii.gz")


OTHER_LISTS = "'validation' (4), in the list 'testing' (1)"


@case(
    validate("passed-over", "'validation'"), train(OTHER_LISTS), evaluate(OTHER_LISTS), corrupt(OTHER_LISTS)
)  # fmt: skip
def lists_of_other_names(out: Path) -> None:
    pairs(out)
    for kind in ("images", "labels"):
        (out / kind).rename(out / f"{kind}Tr")
    items = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in PEOPLE]
    describe(out, training=items[:3], validation=items[3:5], testing=[{"image": items[5]["image"]}])


SUB_FOLDER = "6 passed over: in a sub-folder (6)"


@case(
    validate("passed-over", "images/site2/case04.nii.gz", "in a sub-folder"), train(SUB_FOLDER),
    evaluate(SUB_FOLDER), corrupt(SUB_FOLDER),
)  # fmt: skip
def sub_folders(out: Path) -> None:
    pairs(out)
    for kind in ("images", "labels"):
        (out / kind / "site2").mkdir()
        for name in PEOPLE[3:]:
            (out / kind / f"{name}.nii.gz").rename(out / kind / "site2" / f"{name}.nii.gz")


def nnunet(out: Path, suffix: str = ".nii.gz") -> None:
    for seed, name in enumerate(PEOPLE):
        image, label = heart(seed)
        save(out / f"imagesTr/{name}_0000.nii.gz", image)
        save(out / f"labelsTr/{name}{suffix}", label)
    describe(out, channel_names={"0": "MR"}, numTraining=6, file_ending=".nii.gz")


@case(
    *all_end(2, "labelsTr/other.nii.gz", "without its image"),
    validate("label-without-image", "labelsTr/other.nii.gz", code=1),
)
def a_label_without_its_image(out: Path) -> None:
    nnunet(out)
    save(out / "labelsTr/other.nii.gz", heart(9)[1])


@case(evaluate(control=True))
def labels_of_another_suffix(out: Path) -> None:
    nnunet(out, ".nii")


@case(evaluate(control=True))
def paths_of_windows_and_absolute_ones(out: Path) -> None:
    pairs(out)
    items = [{"image": f".\\images\\{n}.nii.gz", "label": f".\\labels\\{n}.nii.gz"} for n in PEOPLE[:3]]
    items += [{k: str(out.resolve() / f"{k}s/{n}.nii.gz") for k in ("image", "label")} for n in PEOPLE[3:]]
    describe(out, training=items)


# names and messages


@case(*all_end(2, "images/case01.nii.gz", "case01.nii lies there; correct the one name"))
def files_under_another_name_than_listed(out: Path) -> None:
    pairs(out)
    items = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz"} for n in PEOPLE]
    describe(out, training=items)
    (out / "images/case01.nii.gz").unlink()
    save(out / "images/case01.nii", heart(0)[0])


@case(
    *all_end(2, "no data set recognised, but 6 .nrrd files, which cannot be read; convert them"),
    predict("no scan found (12 passed over: another format (12))", code=2),
)
def nnunet_of_another_format(out: Path) -> None:
    for name in PEOPLE:
        for file in (f"imagesTr/{name}_0000.nrrd", f"labelsTr/{name}.nrrd"):
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).write_bytes(b"NRRD0004\n")
    describe(out, channel_names={"0": "MR"}, numTraining=6, file_ending=".nrrd")


@case(
    *all_end(2, "mm away from the image", "if their voxels match"),
    validate("grid", "or, if their voxels match, copy the image's header into it", code=1),
)
def labels_without_geometry(out: Path) -> None:
    pairs(out)
    for name in PEOPLE:
        save(out / f"labels/{name}.nii.gz", heart()[1], np.eye(4))


@case(evaluate(control=True))
def label_maps_of_a_rounded_slope(out: Path) -> None:
    pairs(out)
    for seed, name in enumerate(PEOPLE):
        image = nib.Nifti1Image(np.where(heart(seed)[1] == 3, 4.0, heart(seed)[1]), affine())
        image.header.set_data_dtype(np.uint8)
        nib.save(image, out / f"labels/{name}.nii.gz")
        values = np.unique(np.asarray(nib.Nifti1Image.from_filename(out / f"labels/{name}.nii.gz").dataobj))
        assert not np.allclose(values, np.rint(values), atol=1e-3)
    describe(out, labels={"background": 0, "LV": 1, "MYO": 2, "RV": 4})


@case(evaluate(control=True))
def nnunet_with_the_names_of_acdc(out: Path) -> None:
    nnunet(out)
    describe(out, labels={"background": 0, "LVC": 1, "MLV": 2, "RV": 3}, channel_names={"0": "MR"})


@case(
    validate("patients-alike", "study_0800, study_0801 may be visits or views of one", "5 more groups"),
    train("may be visits or views of one person", "lie in different parts; list who trains"),
    predict(maps=12), corrupt("1 data set of 12 volumes"),
)  # fmt: skip
def visits_under_names_of_their_own(out: Path) -> None:
    pairs(out, tuple(f"study_{patient:02d}{visit:02d}" for patient in range(8, 14) for visit in (0, 1)))


@case(
    validate("nothing wrong", "4 patients, 8 volumes"), train("2 training patients, 16 training slices"),
    predict(maps=8), corrupt("1 data set of 8 volumes"),
)  # fmt: skip
def sessions(out: Path) -> None:
    pairs(out, tuple(f"sub-{patient:02d}_ses-{visit}" for patient in range(1, 5) for visit in (1, 2)))


@case(
    validate("patients-alike", "001_LA, 001_SA may be visits or views of one person", "2 more groups"),
    train("lie in different parts; list who trains"),
)
def short_and_long_axis(out: Path) -> None:
    pairs(out, tuple(f"{patient:03d}_{view}" for patient in range(1, 4) for view in ("SA", "LA")))


@case()
def names_in_two_forms_of_unicode(out: Path) -> None:
    pairs(out, ("M\u00fcller", "J\u00f6rg", "Zo\u00eb", "Anna", "Bea", "Cem"))
    for path in every(out / "images"):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))


ONLY = "a split file holds lists train, validate and perhaps test, nothing else"
FOLDS = ("--split", "splits_final.json")


@case(train(ONLY, code=2, more=FOLDS), evaluate(ONLY, code=2, more=FOLDS))
def the_folds_of_nnunet_as_a_split(out: Path) -> None:
    nnunet(out)
    folds = [{"train": PEOPLE[1:], "val": PEOPLE[:1]}, {"train": PEOPLE[:-1], "val": PEOPLE[-1:]}]
    (out / "splits_final.json").write_text(json.dumps(folds))


@case(*all_end(2, "M\\udcfcller"), predict(maps=2))
def a_name_that_is_no_unicode(out: Path) -> None:
    """As from an old zip, in Latin-1."""
    save(out / "ok.nii.gz", heart()[0])
    os.rename(out / "ok.nii.gz", os.fsencode(out) + b"/M\xfcller.nii.gz")
    save(out / "other.nii.gz", heart(1)[0])


@case(
    validate("passed-over", "folds of its entries; list patients in a --split file"),
    train("folds of its entries (1)"), evaluate("folds of its entries (1)", control=True),
    corrupt("folds of its entries (1)"),
)  # fmt: skip
def folds_in_a_list(out: Path) -> None:
    pairs(out)
    items = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz"} for n in PEOPLE]
    describe(out, training=[{**item, "fold": number % 3} for number, item in enumerate(items)])


@case(
    validate("constant", code=1), predict("the case is blank", maps=6, on="images"),
    train("percentiles 2 and 98 are both 0, so the case is blank, and so are 4 more", code=2),
    evaluate("the case is blank"), corrupt("the case is blank"),
)  # fmt: skip
def nothing_but_the_heart_was_kept(out: Path) -> None:
    pairs(out)
    for seed, name in enumerate(PEOPLE):
        image, label = heart(seed)
        save(
            out / f"images/{name}.nii.gz",
            np.where((label > 0) & (np.indices(label.shape)[0] == 24), image, 0),
        )


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@case(*all_end(2, "code 128); export it as integers or float32"))
def label_maps_in_colours(out: Path) -> None:
    pairs(out)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    for seed, name in enumerate(PEOPLE):
        label = np.ascontiguousarray(colours[heart(seed)[1]]).view(RGB)[..., 0]
        nib.save(nib.Nifti1Image(label, affine()), out / f"labels/{name}.nii.gz")


FIVE = "shape (48, 48, 4, 1, 2); a scan has 3 dimensions, or 4 with time"


@case(*all_end(2, FIVE), predict(FIVE, code=2))
def two_channels_in_a_fifth_dimension(out: Path) -> None:
    pairs(out)
    for seed, name in enumerate(PEOPLE):
        image = heart(seed)[0]
        save(out / f"images/{name}.nii.gz", np.stack([image, image], -1)[:, :, :, None])


NAN = "1536 of 9216 voxels are NaN or infinite; replace them"


@case(*all_end(2, NAN), predict(NAN, code=2))
def nan_outside_a_mask(out: Path) -> None:
    pairs(out)
    for seed, name in enumerate(PEOPLE):
        image = heart(seed)[0].astype(np.float32)
        image[:8] = np.nan
        save(out / f"images/{name}.nii.gz", image)


CLAIMED = "header claims the shape (48, 48, 4, 0); the header is damaged, export it again"


@case(*all_end(2, CLAIMED), predict(CLAIMED, code=2))
def no_frame_at_all(out: Path) -> None:
    pairs(out)
    for name in PEOPLE:
        patch(out / f"images/{name}.nii.gz", (40, "h", 4), (48, "h", 0))


@case(
    validate("orientation", "0 errors"),
    evaluate("the data set has no label LV, MYO, RV, only background, thing", code=2),
)
def tiny_noise(out: Path) -> None:
    for seed, name in enumerate(PEOPLE):
        generator = np.random.default_rng(seed)
        for folder, most in (("images", 255), ("labels", 2)):
            voxels = generator.integers(0, most, (10, 10, 1)).astype(np.int16)
            save(out / f"{folder}/{name}.nii.gz", voxels, np.diag([1.0, 1, 1, 1]))
    describe(out, labels={"background": 0, "thing": 1})


@case(evaluate(control=True))
def label_maps_of_floats_under_whole_numbers(out: Path) -> None:
    pairs(out)
    for seed, name in enumerate(PEOPLE):
        image = nib.Nifti1Image(heart(seed)[1].astype(float), affine())
        image.header.set_data_dtype(np.int16)
        nib.save(image, out / f"labels/{name}.nii.gz")
        values = np.asarray(nib.Nifti1Image.from_filename(out / f"labels/{name}.nii.gz").dataobj)
        assert not np.array_equal(values, np.rint(values))


# two label maps for one image


@case(
    validate("duplicate-label", "case01_gt.nii.gz", "case01_seg.nii.gz", code=1),
    train("case01_gt.nii.gz: a label map of the same image as", "case01_seg.nii.gz", code=2),
    evaluate("a label map of the same image", code=2), corrupt("a label map of the same image", code=2),
)  # fmt: skip
def two_raters(out: Path) -> None:
    for seed, name in enumerate(PEOPLE):
        image, label = heart(seed)
        save(out / f"{name}.nii.gz", image)
        save(out / f"{name}_gt.nii.gz", label)
        save(out / f"{name}_seg.nii.gz", np.roll(label, 9, 0))


NOT_LISTED = "6 passed over: not listed in dataset.json (6)"


@case(
    validate("0 errors", "6 patients"), train(NOT_LISTED), corrupt(NOT_LISTED),
    evaluate(NOT_LISTED, control=True),
)  # fmt: skip
def two_raters_and_a_list(out: Path) -> None:
    two_raters(out)
    describe(out, items=[{"image": f"{name}.nii.gz", "label": f"{name}_gt.nii.gz"} for name in PEOPLE])


# label maps among scans


@case(*all_end(2, NO_DATA_SET), predict("4 passed over: label map by its name (4)", maps=4))
def acdc_in_the_names_of_others(out: Path) -> None:
    for seed in range(2):
        for phase in ("ED", "ES"):
            for kind, voxels in zip(("image", "label"), heart(seed), strict=True):
                save(out / f"patient{seed + 1:03d}/{kind}_{phase}.nii.gz", voxels)


@case(*all_end(2, NO_DATA_SET), predict("8 passed over: label map by its name (8)", maps=4))
def uk_biobank(out: Path) -> None:
    for seed, subject in enumerate(("1000001", "1000002")):
        for phase in ("ED", "ES"):
            image, label = heart(seed)
            save(out / subject / f"sa_{phase}.nii.gz", image)
            for mark in ("seg", "label"):
                save(out / subject / f"{mark}_sa_{phase}.nii.gz", label)


@case(predict("12 passed over: label map by its name (12)", maps=6))
def predictions_beside_scans(out: Path) -> None:
    nnunet(out)
    for name in PEOPLE:
        save(out / f"predictionsTr/{name}.nii.gz", heart()[1])


BELOW = "2 passed over: in a sub-folder (2)"


@case(
    predict("8 passed over: label map by its name (8)", maps=6), validate("0 errors", "6 patients"),
    train(BELOW), corrupt(BELOW), evaluate(BELOW, more=("--labels=LV=1,MYO=2,RV=3",), control=True),
)  # fmt: skip
def marks_of_any_kind(out: Path) -> None:
    marks = ("{}_GT", "{}_Seg", "{}-mask", "Label_{}", "gt-{}", "SEG_{}")
    for seed, (name, mark) in enumerate(zip(PEOPLE, marks, strict=True)):
        image, label = heart(seed)
        save(out / f"{name}.nii.gz", image)
        save(out / f"{mark.format(name)}.nii.gz", label)
    for folder in ("Segmentations", "MASKS"):
        save(out / folder / "case01.nii.gz", heart()[1])


@case(
    predict("holds 4 whole numbers only, as a label map does", maps=6, on="images"),
    evaluate("holds 4 whole numbers only"), corrupt("holds 4 whole numbers only"),
    train("holds 4 whole numbers only"), validate("label-as-image"),
)  # fmt: skip
def label_maps_in_place_of_scans(out: Path) -> None:
    pairs(out)
    for name in PEOPLE:
        save(out / f"images/{name}.nii.gz", np.roll(heart()[1], int(name[-1]), 1))


# test images without labels


def decathlon_with_tests(out: Path) -> None:
    pairs(out)
    items = [{"image": f"./images/{n}.nii.gz", "label": f"./labels/{n}.nii.gz"} for n in PEOPLE]
    tests = [f"./imagesTs/test{number}.nii.gz" for number in range(4)]
    for seed, name in enumerate(tests):
        save(out / name, heart(seed + 20)[0])
    describe(out, training=items, test=tests)


@case(
    validate("nothing wrong", "6 patients", "4 test images without labels, used by predict only"),
    train("4 training patients", "4 test images without labels left out"),
    evaluate("4 test images without labels left out"), corrupt("of 6 volumes", "4 test images"),
    predict(maps=4, on="imagesTs"),
)  # fmt: skip
def a_decathlon_with_test_images(out: Path) -> None:
    decathlon_with_tests(out)


@case(
    validate("label-missing", "images/case01.nii.gz", code=1), predict(maps=10),
    train("images/case01.nii.gz: no label found beside it", code=2),
    evaluate("volume case01 has no label", code=2), corrupt("volume case01 has no label", code=2),
)  # fmt: skip
def a_training_image_without_its_label(out: Path) -> None:
    decathlon_with_tests(out)
    entries = json.loads((out / "dataset.json").read_text())
    del entries["training"][0]["label"]
    describe(out, **entries)


# units and spacing


@case(
    validate("nothing wrong"), train("4 training patients", never=("warning",)), corrupt(),
    predict(maps=6, on="images", never=("spacing", "mm apart")), evaluate(control=True),
)  # fmt: skip
def metres(out: Path) -> None:
    pairs(out, matrix=affine(scale=1e-3), units="meter")


@case(train("4 training patients", never=("warning",)), evaluate(control=True))
def micrometres(out: Path) -> None:
    pairs(out, matrix=affine(scale=1e3), units="micron")


EXTREME = "pixels of 0.0036 x 0.0036 mm, slices 0.008 mm apart"


@case(
    validate("spacing-extreme", code=1), train(EXTREME, code=2), predict(EXTREME, code=2),
    evaluate(EXTREME, code=2), corrupt(EXTREME, code=2),
)  # fmt: skip
def metres_that_are_called_millimetres(out: Path) -> None:
    pairs(out, matrix=affine(scale=1e-3))


UNUSUAL = "slices 0.6 mm apart; check it against the scanner's"


@case(
    validate("spacing-unusual"), train(UNUSUAL), predict(UNUSUAL, on="images"), evaluate(UNUSUAL),
    corrupt(UNUSUAL),
)  # fmt: skip
def a_spacing_that_is_unusual(out: Path) -> None:
    pairs(out, matrix=affine(0.2, 0.2, 0.6))


# sform and qform


def rotated_by_180_degrees(out: Path, b: float) -> None:
    pairs(out)
    for path in every(out):
        patch(path, (254, "h", 0), (252, "h", 1), (256, "3f", b, b, 0.0))


@case()
def a_rotation_off_by_rounding(out: Path) -> None:
    rotated_by_180_degrees(out, 0.70710695)  # 1 - b² - c² is -4.7e-7


@case(*all_end(2, "the qform is no rotation and scale"), predict("no rotation", code=2))
def a_qform_that_is_no_rotation(out: Path) -> None:
    rotated_by_180_degrees(out, 0.7073)


@case(
    validate("forms-disagree", "the sform is singular; the qform is taken"),
    predict("the sform is singular; the qform is taken", maps=6, on="images"),
    train("the sform is singular; the qform is taken"),
    evaluate("the sform is singular; the qform is taken"), corrupt("the sform is singular; the qform"),
)  # fmt: skip
def a_singular_sform_beside_a_good_qform(out: Path) -> None:
    pairs(out)
    for path in every(out):
        patch(path, (280, "f", 0.0))  # srow_x[0]


DISAGREE = "sform and qform disagree; the sform is taken"


@case(
    validate("forms-disagree", "sform and qform disagree; the sform is taken"),
    predict("sform and qform disagree; the sform is taken", maps=6, on="images"),
    train(DISAGREE), evaluate(DISAGREE, control=True), corrupt(DISAGREE),
)  # fmt: skip
def forms_that_disagree(out: Path) -> None:
    pairs(out)
    for path in every(out):
        patch(path, (292, "f", 95.0))  # srow_x[3]


# --- the tests ---


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], None]], Path]:
    """Builds the data set of a case, once for all verbs, which only read it."""

    @cache
    def make(build: Callable[[Path], None]) -> Path:
        data = tmp_path_factory.mktemp(build.__name__) / "data"
        build(data)
        return data

    return make


@pytest.fixture(scope="module")
def model(coopseg: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; what it predicts is of no matter."""
    folder = tmp_path_factory.mktemp("control")
    pairs(folder / "data")
    result = coopseg("train", "--data", folder / "data", "--out", folder / "run", *TINY)
    assert result.exit_code == 0, result.stderr
    assert "warning" not in result.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def control(coopseg: Callable[..., Any], model: Path) -> list[str]:
    """The scores of the model on what it was trained on."""
    out = model.parent / "scores"
    result = coopseg(*words(evaluate(), model.parent / "data", out, model))
    assert result.exit_code == 0, result.stderr
    return scores(out)


def scores(out: Path) -> list[str]:
    """Dice of every case, class and head, in order of size."""
    with (out / "cases.csv").open() as file:
        return sorted(row["dice"] for row in csv.DictReader(file))


def words(verb: Verb, data: Path, out: Path, model: Path) -> list[Any]:
    """The words to type for a verb."""
    more = [data / word if (data / word).is_file() else word for word in verb.more]
    data = data / verb.on
    typed: dict[str, list[Any]] = {
        "validate": ["validate", data],
        "train": ["train", "--data", data, "--out", out, *TINY],
        "predict": ["predict", data, "--model", model, "--out", out, "--device=cpu"],
        "evaluate": [
            "evaluate", "--model", model, "--data", data, "--out", out, "--device=cpu", "--no-pictures",
        ],
        "corrupt": ["corrupt", "--data", data, "--out", out, "--workers=1", "--copies=1",
                    "--kinds=RandBias", "--set=cases.size=[32,32]", "--set=cases.spacing=6"],
    }  # fmt: skip
    return [*typed[verb.name], *more]


@pytest.mark.parametrize(
    ("build", "verb"),
    [
        pytest.param(each.build, verb, id=f"{each.build.__name__}-{verb.name}")
        for each in CASES
        for verb in each.verbs
    ],
)
def test_no_verb_is_silently_wrong(
    coopseg: Callable[..., Any],
    built: Callable[[Callable[[Path], None]], Path],
    model: Path,
    control: list[str],
    tmp_path: Path,
    build: Callable[[Path], None],
    verb: Verb,
) -> None:
    out = tmp_path / "out"
    result = coopseg(*words(verb, built(build), out, model))
    printed = re.sub(r"\s+", " ", result.stdout + result.stderr)
    assert result.exit_code == verb.code, printed
    for text in verb.says:
        assert text in printed
    for text in verb.never:
        assert text not in printed
    if verb.code == 2:
        assert not out.exists() or not any(out.iterdir())
    if verb.maps is not None:
        assert len(list(every(out))) == verb.maps
    if verb.control:
        assert scores(out) == control


def predicted(coopseg: Callable[..., Any], model: Path, scan: Path, out: Path) -> nib.Nifti1Image:
    result = coopseg("predict", scan, "--model", model, "--out", out, "--device=cpu")
    assert result.exit_code == 0, result.stderr
    return nib.Nifti1Image.from_filename(next(every(out)))


@pytest.mark.parametrize(
    ("matrix", "units"),
    [
        (affine(PIXEL, PIXEL, 1.0), "mm"),
        (affine(scale=1e-3), "meter"),
        (affine(scale=1e3), "micron"),
    ],
)
def test_voxels_are_predicted_as_in_a_plain_file(
    coopseg: Callable[..., Any], model: Path, tmp_path: Path, matrix: np.ndarray, units: str
) -> None:
    """One slice, the same voxels in millimetres with the true thickness: the label map is the same."""
    image = heart(3, 1)[0]
    plain = predicted(coopseg, model, save(tmp_path / "a/plain.nii.gz", image), tmp_path / "plain")
    scan = save(tmp_path / "b/scan.nii.gz", image, matrix, units)
    found = predicted(coopseg, model, scan, tmp_path / "found")
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(plain.dataobj))
    np.testing.assert_array_equal(
        found.header.get_sform(), nib.Nifti1Image.from_filename(scan).header.get_sform()
    )
    assert found.header.get_xyzt_units()[0] == units
