"""Damaged text: tables, descriptions, splits, records and settings."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from damage import BYTES, Generator
from verdict import LONGEST, REFUSED, refusal_of

from coopseg.cases.splits import read_split, split_of_run
from coopseg.config.resolve import parse_override, resolve_settings
from coopseg.errors import CoopsegError
from coopseg.scans.labels import canonical_name
from coopseg.scans.layouts import open_dataset
from coopseg.scans.nifti import write_image
from coopseg.scans.types import Dataset

SNIPPETS = (
    b"!!python/object/apply:os.system ['touch trap']", b"&a [*a, *a]", b"*a", b"<<: {a: 1}", b"!!bool x",
    b"!!int ''", b"!!timestamp x", b"2001-99-99", b"[" * 5000, b"{" * 3000, b"- " * 3000, b"../../etc/passwd",
    b"/etc/passwd",
    b'"\\ud800"', b"\\u0000", b"\x00", b"\xff\xfe", "²".encode(), b"9" * 5000, b"0x" + b"f" * 5000, b"NaN",
    b"1e999", b"null", b"true", b"-1", b"{}", b"[]", b"1:2:3", b'"' * 3, b"\r", b"\xe2\x80\xa8", b"a" * 3000,
)  # fmt: skip
SETTINGS = (
    b"training.steps=500", b"cases.size=[32, 48]", b"cases.spacing=null", b"latent.soft=true",
    b"network.norm=running", b"training.learning_rate=0.01",
)  # fmt: skip
LABELS = {"background": 0, "LV": 1, "MYO": 2}
PARTS = {"train": ["p1", "p2"], "validate": ["p3"], "test": ["p4", "p5"]}


@dataclass(frozen=True)
class Text:
    """A text file, how it is read, and what must hold of what comes back. where: the path that is read."""

    path: Path
    content: bytes
    where: Path
    read: Callable[[Path], Any]
    agrees: Callable[[Any, str], bool]


def make_texts(folder: Path) -> list[Text]:
    """Every kind of text that is read, in data sets with images of one voxel."""
    kinds: dict[str, tuple[str, str, Any]] = {
        "acdc": ("patient001/Info.cfg", "ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\n", acdc_agrees),
        "mnms": ("table.csv", mnms_table(), mnms_agrees),
        "nnunet": ("dataset.json", described(channel_names={"0": "MR"}), description_agrees),
        "decathlon": (
            "dataset.json",
            described(training=[entry("a_ED"), entry("b")], test=["./images/c.nii.gz"]),
            description_agrees,
        ),
        "folder": (
            "dataset.json",
            described(items=[{**entry("a_ED"), "site": "x/1"}, entry("b")]),
            description_agrees,
        ),
    }  # fmt: skip
    texts = []
    for kind, (name, content, agrees) in kinds.items():
        root = folder / kind
        for file in FILES[kind]:
            write_image(root / file, np.zeros((1, 1, 1)), affine=np.eye(4), dtype=np.uint8)
        texts.append(Text(root / name, content.encode(), root, open_dataset, agrees))
    (folder / "run").mkdir()
    run = json.dumps({"split": {"name": "mine", **PARTS}, "best": {"FTN": {"step": 3}}}, indent=1)
    texts += [
        Text(
            folder / "split.json", json.dumps(PARTS).encode(), folder / "split.json", read_split, json_agrees
        ),
        Text(
            folder / "split.yaml",
            yaml.safe_dump(PARTS).encode(),
            folder / "split.yaml",
            read_split,
            yaml_agrees,
        ),
        Text(folder / "run" / "run.json", run.encode(), folder / "run", split_of_run, run_agrees),
    ]
    for text in texts:
        text.path.write_bytes(text.content)
    return texts


PAIRS = [f"{folder}/{name}.nii.gz" for folder in ("images", "labels") for name in ("a_ED", "b")]
FILES = {
    "acdc": [f"patient001/patient001_frame{number}.nii.gz" for number in ("01", "12", "10")],
    "mnms": [f"Training/Labeled/{code}/{code}_sa.nii.gz" for code in ("A1", "B2")],
    "nnunet": ["imagesTr/a_ED_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz"],
    "decathlon": [*PAIRS, "images/c.nii.gz"],
    "folder": PAIRS,
}  # fmt: skip


def entry(name: str) -> dict[str, str]:
    return {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}


def described(**more: Any) -> str:
    return json.dumps({"name": "toy", "labels": LABELS, **more}, indent=1)


def mnms_table() -> str:
    rows = [
        "External code,VendorName,Vendor,Centre,ED,ES",
        "A1,Siemens,A,1,0,9",
        'B2,"Philips, new",B,2,24,11',
    ]
    return "\n".join(rows) + "\n"


def within(dataset: Dataset) -> bool:
    """Files that are there, below the folder, and names that may be file names."""
    files = [file for item in dataset.items for file in (item.image, item.label) if file]
    inside = all(file.is_file() and file.resolve().is_relative_to(dataset.root.resolve()) for file in files)
    return inside and all(re.fullmatch(r"[^./\\\0\n][^/\\\0\n]*", item.id) for item in dataset.items)


def acdc_agrees(dataset: Dataset, text: str) -> bool:
    frames = {item.phase: int(item.image.name.split("frame")[1].split(".")[0]) for item in dataset.items}
    return within(dataset) and all(
        re.search(rf"^\s*{phase}\s*:\s*0*{frame}\s*$", text, re.MULTILINE) for phase, frame in frames.items()
    )


def mnms_agrees(dataset: Dataset, text: str) -> bool:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(keepends=True))]
    return within(dataset) and all(
        any(item.patient in row and {str(item.frame), f"{item.frame}.0"} & set(row) for row in rows)
        or item.frame is None
        for item in dataset.items
    )


def description_agrees(dataset: Dataset, text: str) -> bool:
    content = json.loads(text)
    if "labels" not in content:  # a plain folder then has the values of its files, here 0 alone
        return within(dataset) and dataset.layout == "folder" and dataset.labels.names == ("background",)
    labels = {}
    for key, value in content["labels"].items():
        name, number = (value, key) if isinstance(value, str) else (key, value)
        labels[canonical_name(name)] = int(number)
    known = dict(zip(dataset.labels.names, dataset.labels.values, strict=True))
    return (
        within(dataset)
        and dataset.name == content.get("name", dataset.root.name)
        and {"background": 0, **labels} == known
    )


def split_agrees(split: Any, content: dict[str, Any]) -> bool:
    return all(list(getattr(split, part)) == content.get(part, []) for part in PARTS)


def json_agrees(split: Any, text: str) -> bool:
    return split_agrees(split, json.loads(text))


def yaml_agrees(split: Any, text: str) -> bool:
    return split_agrees(split, yaml.safe_load(text))


def run_agrees(split: Any, text: str) -> bool:
    return split_agrees(split, json.loads(text)["split"])


def insert(content: bytes, generator: Generator) -> bytes:
    """Something hostile between, or in the place of, what is there."""
    snippet = SNIPPETS[int(generator.integers(len(SNIPPETS)))]
    words = [match.span() for match in re.finditer(rb'"[^"]*"|\w+', content)]
    start, stop = words[int(generator.integers(len(words)))]
    if content[start : start + 1] == b'"' and generator.random() < 0.5:
        start, stop = start + 1, stop - 1
    return content[:start] + snippet + content[stop if generator.random() < 0.7 else start :]


DAMAGES = {**BYTES, "insert": insert}


def check(texts: list[Text], generator: Generator) -> tuple[str, str]:
    """Spoil a text and read it; (kind, verdict)."""
    name = str(
        generator.choice(list(DAMAGES), p=[0.5 if name == "insert" else 0.5 / len(BYTES) for name in DAMAGES])
    )
    index = int(generator.integers(len(texts) + 2))
    if index >= len(texts):
        return check_setting(DAMAGES[name](SETTINGS[int(generator.integers(len(SETTINGS)))], generator), name)
    text = texts[index]
    spoiled = DAMAGES[name](text.content, generator)
    text.path.write_bytes(spoiled)
    found = refusal_of(text.read, text.where)
    text.path.write_bytes(text.content)
    kind = f"{text.path.name}/{name}"
    if found is REFUSED:
        return kind, "refused"
    assert text.agrees(found, spoiled.decode("utf-8-sig")), f"{kind}: read as {found}"
    return kind, "read"


def check_setting(spoiled: bytes, name: str) -> tuple[str, str]:
    """A word of the command line."""
    word = spoiled.decode(errors="surrogateescape")
    try:
        resolve_settings(overrides=[word])
    except CoopsegError as error:
        message = str(error)
    else:
        assert parse_override(word)[1] == yaml.safe_load(word.partition("=")[2])
        return f"setting/{name}", "read"
    assert message.isprintable()
    assert len(message) < LONGEST
    return f"setting/{name}", "refused"
