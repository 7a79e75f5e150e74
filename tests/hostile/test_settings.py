"""Settings, splits, tables and descriptions written by somebody who means harm, or by a broken program."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from coopseg.cases.splits import read_split
from coopseg.errors import CoopsegError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
SPLITS: dict[str, bytes] = {
    "python tag": b"!!python/object/apply:os.system ['touch trap']",
    "python tag inside": b"train: !!python/object/new:os.system ['touch trap']\nvalidate: []",
    "other tag": b"train: !thing [a]\nvalidate: [b]",
    "billion laughs": BOMB.encode(),
    "merge keys": MERGE_BOMB.encode(),
    "recursive": b"train: &a [*a]\nvalidate: []",
    "nested": b"[" * 100_000,
    "not UTF-8": b"train: [\xff]\nvalidate: []",
    "UTF-16": "train: [a]".encode("utf-16"),
    "nul": b"train: [\0]\nvalidate: []",
    "two documents": b"train: [a]\n---\nvalidate: [b]",
    "a list": b"[train, validate]",
    "nothing": b"",
    "patients that are numbers": b"train: [1]\nvalidate: [2]",
    "a patient instead of a list": b"train: abc\nvalidate: [b]",
    "a patient twice": b"train: [a, a]\nvalidate: [b]",
    "a part twice": b"train: [a]\ntrain: [c]\nvalidate: [b]",
    "an unknown part": b"train: [a]\nvalidate: [b]\nholdout: [c]",
    "a date that is none": b"train: [2001-99-99]\nvalidate: [b]",
    "a tag that does not fit": b"train: !!bool x\nvalidate: [b]",
    "an enormous number": b"train: [" + b"9" * 5000 + b"]\nvalidate: [b]",
    "megabytes of YAML": b"train:\n" + b"- a\n" * 10**6,
}


@pytest.mark.parametrize("kind", SPLITS)
def test_split_files(refuses: Callable[..., str], data: Path, model: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "split.yaml"
    file.write_bytes(SPLITS[kind])
    before = os.times().user
    refuses("train", "--data", data, "--split", file, parts=(file,))
    refuses("corrupt", "--data", data, "--split", file, parts=(file,))
    refuses("evaluate", "--data", data, "--model", model, "--split", file, parts=(file,))
    assert os.times().user - before < 10
    assert not Path("trap").exists()


@pytest.mark.parametrize(
    "content",
    ["{", "[" * 10**5, "9" * 5000, '{"train": ["a"], "train": [], "validate": []}', "NaN", "\ufeff"],
)
def test_split_files_in_json(refuses: Callable[..., str], data: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "split.json"
    file.write_text(content)
    refuses("train", "--data", data, "--split", file, parts=(file,))


def test_a_split_that_is_a_folder_or_a_very_long_name(
    refuses: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    refuses("train", "--data", data, "--split", tmp_path, parts=(tmp_path, "no such split"))
    refuses("train", "--data", data, "--split", "x" * 300, parts=("x" * 300,))
    refuses("train", "--data", "x" * 300, parts=("x" * 300,))
    refuses("predict", "--model", "x" * 300, data, parts=("x" * 300,))


def test_a_large_split_is_read_in_no_time(tmp_path: Path) -> None:
    names = [f"patient{index}" for index in range(100_000)]
    (tmp_path / "x.json").write_text(json.dumps({"train": names, "validate": [], "test": ["x"]}))
    before = os.times().user
    assert len(read_split(tmp_path / "x.json").train) == 100_000
    assert os.times().user - before < 5


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system [touch trap]", "!!python/name:os.system", "!!bool x", "!!int ''",
        "!!timestamp x", "2001-99-99", "&a [*a]", "[" * 5000, "0x" + "f" * 5000, "9" * 5000, "{1: 2}", ".inf",
        "-.inf", ".nan", "null", "\0", "a\nb", "\udcff",
    ],
)  # fmt: skip
def test_values_of_settings(refuses: Callable[..., str], data: Path, value: str) -> None:
    for key in ("training.steps", "training.learning_rate"):
        if (key, value) not in {("training.steps", "null")}:
            refuses("train", "--data", data, "--set", f"{key}={value}", parts=("setting", key))
    assert not Path("trap").exists()


@pytest.mark.parametrize("value", [".inf", "1e-320", "1e-30", "-1", "0", ".nan"])
def test_spacings(refuses: Callable[..., str], data: Path, value: str) -> None:
    refuses("train", "--data", data, "--set", f"cases.spacing={value}", parts=("cases.spacing",))


def test_sizes(refuses: Callable[..., str], data: Path) -> None:
    refuses("train", "--data", data, "--set", "cases.size=[1600000, 1600000]", parts=("cases.size",))
    refuses(
        "corrupt",
        "--data",
        data,
        "--grid=published",
        "--workers=1",
        "--set",
        "cases.size=[160000, 160000]",
        parts=("cases.size",),
    )


ITEM = {"image": "images/p1.nii.gz", "label": "labels/p1.nii.gz"}
DESCRIPTIONS: dict[str, str] = {
    "no JSON": "{",
    "a list": "[]",
    "nested": "[" * 100_000,
    "nested inside": '{"items": ' + '{"a": ' * 50_000,
    "UTF-16": "\xff\xfe{\x00}\x00",
    "long number": json.dumps({"labels": {"LV": 0}}).replace("0", "9" * 5000),
    "labels that are a list": json.dumps({"labels": ["LV"]}),
    "labels without end": json.dumps({"labels": {f"l{index}": index for index in range(10**5)}}),
    "label of a superscript": json.dumps({"labels": {"\u00b2": "LV"}}),
    "label beyond 32 bits": json.dumps({"labels": {"LV": 2**40}}),
    "label of a million digits": json.dumps({"labels": {"9" * 10**6: "LV"}}),
    "label true": json.dumps({"labels": {"LV": True}}),
    "label of two lines": json.dumps({"labels": {"LV\nMYO": 1}}),
    "label of half a letter": '{"labels": {"\\ud800": 1}}',
    "label twice": '{"labels": {"LV": 1, "LV": 2}}',
    "name that is no text": json.dumps({"name": {"a": 1}, "labels": {"LV": 1}}),
    "name of two lines": json.dumps({"name": "a\nb", "labels": {"LV": 1}}),
    "name without end": json.dumps({"name": "a" * 10**6, "labels": {"LV": 1}}),
    "items that are a number": json.dumps({"items": 5, "labels": {"LV": 1}}),
    "item that is text": json.dumps({"items": ["x" * 10**5], "labels": {"LV": 1}}),
    "image that is a number": json.dumps({"items": [{"image": 5}], "labels": {"LV": 1}}),
    "image that is null": json.dumps({"items": [{"image": None}], "labels": {"LV": 1}}),
    "image without a name": json.dumps({"items": [{"image": ""}], "labels": {"LV": 1}}),
    "image of a long name": json.dumps({"items": [{"image": "a" * 5000}], "labels": {"LV": 1}}),
    "image with a nul": json.dumps({"items": [{"image": "a\0.nii"}], "labels": {"LV": 1}}),
    "image of half a letter": '{"items": [{"image": "\\ud800.nii"}], "labels": {"LV": 1}}',
    "site of two lines": json.dumps({"items": [{**ITEM, "site": "a\nb"}], "labels": {"LV": 1}}),
    "unknown key": json.dumps({"items": [{**ITEM, "\x1b[31m": 1}], "labels": {"LV": 1}}),
    "normalised that is text": json.dumps({"normalised": "yes" * 1000, "labels": {"LV": 1}}),
    "decathlon with a number": json.dumps({"training": [], "test": 5, "labels": {"LV": 1}}),
    "decathlon with null": json.dumps({"training": [None], "labels": {"LV": 1}}),
    "several channels": json.dumps({"training": [], "modality": {"0": "a", "1": "b"}, "labels": {"LV": 1}}),
}  # fmt: skip


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_descriptions(refuses: Callable[..., str], data: Path, model: Path, kind: str) -> None:
    (data / "dataset.json").write_bytes(DESCRIPTIONS[kind].encode("latin-1"))
    before = os.times().user
    refuses("train", "--data", data, parts=(data,))
    refuses("evaluate", "--model", model, "--data", data, parts=(data,))
    refuses("corrupt", "--data", data, parts=(data,))
    assert os.times().user - before < 10


@pytest.mark.parametrize(
    "content",
    ["", "ED: \u00b2\nES: 1", "ED: " + "9" * 5000 + "\nES: 1", "ED: -1\nES: 2", "\xff\xfe", "ED: 1\0\nES: 2"],
)
def test_info_of_acdc(refuses: Callable[..., str], tmp_path: Path, content: str) -> None:
    config = tmp_path / "acdc" / "patient001" / "Info.cfg"
    config.parent.mkdir(parents=True)
    config.write_bytes(content.encode("latin-1"))
    refuses("train", "--data", tmp_path / "acdc", parts=(config,))
    config.unlink()
    config.mkdir()
    refuses("train", "--data", tmp_path / "acdc", parts=(config, "directory"))


HEAD = "External code,VendorName,Vendor,Centre,ED,ES\n"
TABLES = {
    "superscript": "A1,x,A,1,\u00b2,3\n",
    "long number": f"A1,x,A,1,{'9' * 5000},3\n",
    "negative": "A1,x,A,1,-1,3\n",
    "unclosed quote": 'A1,"x,A,1,1,3\n' + "A1,x,A,1,1,3\n" * 20_000,
    "not UTF-8": "A1,\xff,A,1,1,3\n",
    "vendor of two lines": 'A1,"x\ny",A,1,1,3\n',
    "one subject twice": "A1,x,A,1,1,3\nA1,x,A,1,1,3\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_table_of_mnms(refuses: Callable[..., str], data: Path, tmp_path: Path, kind: str) -> None:
    image = tmp_path / "mnms" / "Testing" / "A1" / "A1_sa.nii.gz"
    image.parent.mkdir(parents=True)
    image.write_bytes((data / "images" / "p1.nii.gz").read_bytes())
    (tmp_path / "mnms" / "t.csv").write_bytes((HEAD + TABLES[kind]).encode("latin-1"))
    (tmp_path / "mnms" / "a.csv").mkdir()
    (tmp_path / "mnms" / "b.csv").write_bytes(bytes(300_000))
    refuses("train", "--data", tmp_path / "mnms", parts=(tmp_path / "mnms",))


def test_label_names(refuses: Callable[..., str], data: Path) -> None:
    for text in ("LV=\u00b2", "LV=" + "9" * 5000, "LV=1,LV=2", "LV=-1", "=", "x" * 10**5, "LV=1," * 10**4):
        refuses("train", "--data", data, "--labels", text, parts=("--labels",))


def test_errors_of_splits_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("train: [a]\nvalidate: [a]")
    with pytest.raises(CoopsegError, match=r"x\.yaml: a in train and in validate"):
        read_split(tmp_path / "x.yaml")
