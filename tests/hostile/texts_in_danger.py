"""Damaged text: tables, descriptions, splits, records and settings."""

from __future__ import annotations

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
from what_texts_say import (
    acdc_agrees,
    description_agrees,
    json_agrees,
    manifest_agrees,
    mnms_agrees,
    request_agrees,
    run_agrees,
    same_json,
    scaled_agrees,
    yaml_agrees,
)

from coopseg.benchmark.request import read_request as read_benchmark
from coopseg.cases.splits import read_split, split_of_run
from coopseg.config.resolve import parse_override, resolve_settings
from coopseg.errors import CoopsegError
from coopseg.evaluation.corrupt import intensities_of_copies, intensities_of_run
from coopseg.results.records import EndedRunFile, read_checked
from coopseg.scans.layouts import open_dataset
from coopseg.scans.nifti import write_image
from coopseg.scans.types import Dataset, Labels, ScanRef
from coopseg.training.checkpoint import read_request

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
SPLIT = {"train": ["p1", "p2"], "validate": ["p3"], "test": ["p4", "p5"]}
CASES = {"percentiles": [1.0, 99.0], "window": None, "spacing": 1.5, "slice_minmax": True}
RUN = {
    "settings": {"method": "standard", "seed": 0, "losses": {"stn": True}, "cases": CASES},
    "data": {"name": "toy", "labels": ["LV", "MYO"]},
    "split": {"name": "mine", **SPLIT},
    "steps": 3,
    "best": {"FTN": {"step": 3, "score": 0.5}},
    "validations": [{"step": 3, "FTN": {"mean": 0.5, "LV": 0.25, "MYO": 0.75}}],
}
REQUEST = {
    "started": "2026-11-25T10:00:00",
    "arguments": {"data": "/toy", "settings": {"training.steps": 3}, "seed": 1, "save_every": 60.0},
    "same": {"setting": {"training": {"steps": 3}}, "split": SPLIT, "classes": ["LV", "MYO"]},
    "scans": "0123456789abcdef",
    "like": {"device": "cpu", "threads": 2},
}
BENCHMARK = {
    "data": "/toy", "split": "random", "settings": {"training.steps": 3}, "severities": [0.5, 2.0],
    "blocks": [{"methods": ["standard", "dsu"], "draws": ["0", "1"], "seeds": [0, 1]}],
    "started": "2026-11-25T10:00:00",
}  # fmt: skip
MANIFEST = {
    "source": {"name": "toy", "layout": "folder", "volumes": 1},
    "seed": 0, "severity": 1.0, "copies": 1, "settings": CASES, "versions": {"torchio": "1.2.0"},
    "volumes": [{"kind": "RandBias", "patient": "p1", "session": "", "phase": "ED", "copy": 1}],
}  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A text file, how it is read, and what must hold of what comes back. where: the path that is read."""

    kind: str
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
            described(training=[entry("a_ED", "Tr"), entry("b", "Tr")], test=["./imagesTs/c.nii.gz"]),
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
        texts.append(Text(kind, root / name, content.encode(), root, open_dataset, agrees))
    copies = Dataset("toy", folder / "copies/toy", "folder", Labels(("background",), (0,)), (COPY,))
    read: dict[str, tuple[Any, Callable[[Path], Any], Callable[[Any, str], bool]]] = {
        "split.json": (SPLIT, read_split, json_agrees),
        "run.json": (RUN, lambda path: split_of_run(path.parent), run_agrees),
        "ended/run.json": (RUN, lambda path: read_checked(EndedRunFile, path, "train anew"), same_json),
        "scaled/run.json": (RUN, lambda path: intensities_of_run(path.parent), scaled_agrees),
        "copies/manifest.json": (MANIFEST, lambda _: intensities_of_copies(copies), manifest_agrees),
        "request.json": (REQUEST, lambda path: read_request(path.parent), request_agrees),
        "benchmark.json": (BENCHMARK, lambda path: read_benchmark(path.parent), request_agrees),
    }
    for name, (values, how, agrees) in read.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        texts.append(Text(name, path, json.dumps(values, indent=1).encode(), path, how, agrees))
    split = folder / "split.yaml"
    texts.append(Text("split.yaml", split, yaml.safe_dump(SPLIT).encode(), split, read_split, yaml_agrees))
    for text in texts:
        text.path.write_bytes(text.content)
    return texts


def entry(name: str, part: str = "") -> dict[str, str]:
    return {"image": f"images{part}/{name}.nii.gz", "label": f"labels{part}/{name}.nii.gz"}


COPY = ScanRef("p1", Path("p1_ED_copy1.nii.gz"), phase="ED", copy=1, normalised=True)
FILES = {
    "acdc": [f"patient001/patient001_frame{number}.nii.gz" for number in ("01", "12", "10")],
    "mnms": [f"Training/Labeled/{code}/{code}_sa.nii.gz" for code in ("A1", "B2")],
    "nnunet": ["imagesTr/a_ED_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz"],
    "decathlon": [*entry("a_ED", "Tr").values(), *entry("b", "Tr").values(), "imagesTs/c.nii.gz"],
    "folder": [*entry("a_ED").values(), *entry("b").values()],
}


def described(**more: Any) -> str:
    return json.dumps({"name": "toy", "labels": LABELS, **more}, indent=1)


def mnms_table() -> str:
    rows = [
        "External code,VendorName,Vendor,Centre,ED,ES",
        "A1,Siemens,A,1,0,9",
        'B2,"Philips, new",B,2,24,11',
    ]
    return "\n".join(rows) + "\n"


def insert(content: bytes, generator: Generator) -> bytes:
    """Something hostile between, or in the place of, what is there."""
    snippet = SNIPPETS[int(generator.integers(len(SNIPPETS)))]
    words = [match.span() for match in re.finditer(rb'"[^"]*"|\w+', content)]
    start, stop = words[int(generator.integers(len(words)))]
    if content[start : start + 1] == b'"' and generator.random() < 0.5:
        start, stop = start + 1, stop - 1
    return content[:start] + snippet + content[stop if generator.random() < 0.7 else start :]


def line(content: bytes, generator: Generator) -> bytes:
    """A line left out, doubled, put in the place of another, or joined with the next."""
    lines = content.split(b"\n")
    first, second = (int(number) for number in generator.integers(len(lines), size=2))
    kind = int(generator.integers(4))
    if kind == 0:
        del lines[first]
    elif kind == 1:
        lines.insert(second, lines[first])
    elif kind == 2:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first : first + 2] = [b"".join(lines[first : first + 2])]
    return b"\n".join(lines)


def mark(content: bytes, generator: Generator) -> bytes:
    """A mark between two entries left out, doubled, or changed into another."""
    places = [match.start() for match in re.finditer(rb"[^\w. /]", content)]
    at = places[int(generator.integers(len(places)))]
    others = (b"", content[at : at + 1] * 2, b";", b",", b":", b"\t", b'"', b"\n", b"\r\n", b"\x0c", b".0")
    return content[:at] + others[int(generator.integers(len(others)))] + content[at + 1 :]


def swap(content: bytes, generator: Generator) -> bytes:
    """A word in the place of another."""
    words = [match.span() for match in re.finditer(rb"\w+", content)]
    (start, stop), other = (words[int(number)] for number in generator.integers(len(words), size=2))
    return content[:start] + content[slice(*other)] + content[stop:]


DAMAGES = {**BYTES, "insert": insert, "line": line, "mark": mark, "swap": swap}
OFTEN = ("insert", "line", "mark", "swap")  # which know what a text is made of


def check(texts: list[Text], generator: Generator) -> tuple[str, str]:
    """Spoil a text and read it; (kind, verdict)."""
    weights = np.array([3.0 if name in OFTEN else 1.0 for name in DAMAGES])
    name = str(generator.choice(list(DAMAGES), p=weights / weights.sum()))
    index = int(generator.integers(len(texts) + 2))
    if index >= len(texts):
        return check_setting(DAMAGES[name](SETTINGS[int(generator.integers(len(SETTINGS)))], generator), name)
    text = texts[index]
    spoiled = DAMAGES[name](text.content, generator)
    text.path.write_bytes(spoiled)
    found = refusal_of(text.read, text.where)
    text.path.write_bytes(text.content)
    kind = f"{text.kind}/{name}"
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
