"""What a text says, read plainly by the standard library: what was made of a damaged one must agree."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from itertools import chain
from typing import Any

import yaml

from coopseg.config.section import Section
from coopseg.scans.labels import canonical_name
from coopseg.scans.types import Dataset

PARTS = ("train", "validate", "test")
PHASES = ("ED", "ES")
COLUMNS = ("External code", "VendorName", "Vendor", "Centre", "ED", "ES")
Json = dict[str, Any]


def plain(text: str) -> str:
    """The text with line ends as Python reads them."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def within(dataset: Dataset) -> bool:
    """Files that are there, below the folder, each image used or named; names that may be file names."""
    volumes = [*dataset.items, *dataset.unlabelled]
    files = [file for item in volumes for file in (item.image, item.label) if file]
    inside = all(file.is_file() and file.resolve().is_relative_to(dataset.root.resolve()) for file in files)
    known = {*files, *chain.from_iterable((each.path, *each.path.rglob("*")) for each in dataset.passed_over)}
    return (
        inside
        and known.issuperset(dataset.root.rglob("*.nii.gz"))
        and all(re.fullmatch(r"[^./\\\0\n][^/\\\0\n]*", item.id) for item in volumes)
    )


def acdc_agrees(dataset: Dataset, text: str) -> bool:
    pairs = [line.partition(":") for line in plain(text).split("\n")]
    said = {phase: [value for key, _, value in pairs if key.strip() == phase] for phase in PHASES}
    found = {item.phase: int(item.image.name.split("frame")[1].split(".")[0]) for item in dataset.items}
    return (
        within(dataset)
        and all(len(values) == 1 for values in said.values())
        and found == {phase: int(values[0]) for phase, values in said.items()}
        and found["ED"] != found["ES"]
    )


def mnms_agrees(dataset: Dataset, text: str) -> bool:
    table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(plain(text)), strict=True)]
    header, rows = table[0], [row for row in table[1:] if any(row)]
    place = {name: header.index(name) for name in COLUMNS}
    said: dict[tuple[str, str], tuple[int, str]] = {}
    for row in rows:
        row += [""] * (len(header) - len(row))
        code, vendor, _, centre, *frames = (row[place[name]] for name in COLUMNS)
        if code in ("A1", "B2"):
            said |= {(code, phase): (int(float(frame)), f"{vendor}/{centre}")
                     for phase, frame in zip(PHASES, frames, strict=True)}  # fmt: skip
    return (
        within(dataset)
        and all(header.count(name) == 1 for name in COLUMNS)
        and not any(any(row[len(header) :]) for row in rows)
        and len(rows) == len({row[place[COLUMNS[0]]] for row in rows})
        and {(item.patient, item.phase): (item.frame, item.site) for item in dataset.items} == said
        and all(said[code, "ED"][0] != said[code, "ES"][0] for code, _ in said)
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
        and items_agree(dataset, content)
    )


def items_agree(dataset: Dataset, content: Json) -> bool:
    """The volumes are those that are listed, where any are: image, label map and site."""
    if dataset.layout == "decathlon":
        listed = [*content["training"], *content.get("test", [])]
    elif dataset.layout == "folder" and "items" in content:
        listed = content["items"] if isinstance(content["items"], list) else [content["items"]]
    else:
        return True
    entries = [entry if isinstance(entry, dict) else {"image": entry} for entry in listed]
    said = [
        (as_path(entry["image"]), as_path(entry.get("label")), site_of(entry, dataset)) for entry in entries
    ]
    found = [
        (
            *(str(file.relative_to(dataset.root)) if file else "" for file in (item.image, item.label)),
            item.site,
        )
        for item in (*dataset.items, *dataset.unlabelled)
    ]
    return sorted(said) == sorted(found)


def as_path(name: str | None) -> str:
    return os.path.normpath(name.replace("\\", "/")) if name else ""


def site_of(entry: Json, dataset: Dataset) -> str:
    return str(entry.get("site", "")) if dataset.layout == "folder" else ""


def split_agrees(split: Any, content: Json) -> bool:
    return all(list(getattr(split, part)) == content.get(part, []) for part in PARTS)


def json_agrees(split: Any, text: str) -> bool:
    return split_agrees(split, json.loads(text))


def yaml_agrees(split: Any, text: str) -> bool:
    return split_agrees(split, yaml.safe_load(text))


def run_agrees(split: Any, text: str) -> bool:
    return split_agrees(split, json.loads(text)["split"])


def same_json(found: Any, text: str) -> bool:
    return bool(found == json.loads(text))


def scaled_agrees(found: Json, text: str) -> bool:
    return intensities_agree(found, json.loads(text)["settings"].get("cases", {}))


def manifest_agrees(found: Json, text: str) -> bool:
    return intensities_agree(found, json.loads(text)["settings"])


def intensities_agree(found: Json, cases: Json) -> bool:
    """The rule is the one that is written, and the published one where nothing is."""
    published = {"percentiles": [2.0, 98.0], "window": None, "slice_minmax": True}
    return all(alike(found[key], cases.get(key, usual)) for key, usual in published.items())


def request_agrees(found: Section, text: str) -> bool:
    """Everything that is written is in the request, and everything else as it is without."""
    return holds(found.model_dump(), json.loads(text))


def holds(found: Any, said: Any) -> bool:
    if isinstance(said, dict):
        return isinstance(found, dict) and all(key in found and holds(found[key], said[key]) for key in said)
    return alike(found, said)


def alike(found: Any, said: Any) -> bool:
    """A number may be written as text, as settings may."""
    if isinstance(said, list):
        return len(found) == len(said) and all(map(alike, found, said))
    if isinstance(found, dict) or isinstance(said, dict):
        return holds(found, said)
    if isinstance(found, float) and math.isnan(found):
        return isinstance(said, float) and math.isnan(said)
    numbers = isinstance(found, int | float) and isinstance(said, str)
    return bool(found == (float(said) if numbers and not isinstance(found, bool) else said))
