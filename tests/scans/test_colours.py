"""Tests that structures have colours of their own and that viewers read names and colours."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from coopseg.results.figures import COLOURS
from coopseg.scans.colours import as_hex, label_table, structure_colours, write_label_names

NAMES = ("background", "LV", "MYO", "RV", 'left "lobe" <a & b>', "odd\nname")


def lab(colours: list[tuple[float, float, float]]) -> np.ndarray:
    """Turns sRGB in [0, 1] into CIE L*a*b*, white D65."""
    values = np.array(colours)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = linear @ to_xyz.T / np.array([0.9505, 1, 1.089])
    root = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_no_structure_looks_like_another_a_method_or_a_grey_pixel() -> None:
    names = ["LV", "MYO", "RV", *(f"label{i}" for i in range(10))]
    structures = [to_rgb(as_hex(colour)) for colour in structure_colours(names)]
    greys = [(level, level, level) for level in np.linspace(0, 1, 50).tolist()]
    others = lab([to_rgb(colour) for colour in COLOURS] + greys)
    own = lab(structures)
    to_others = np.linalg.norm(own[:, None] - others[None], axis=-1)
    to_own = np.linalg.norm(own[:, None] - own[None], axis=-1) + 100 * np.eye(len(own))
    assert to_others.min() > 30  # CIE76; 2.3 can just be told apart
    assert to_own.min() > 25


def test_colours_follow_the_name_of_the_heart_and_the_order_of_others() -> None:
    assert structure_colours(("RV", "lvc"))[1] == structure_colours(NAMES)[1]
    assert structure_colours(NAMES)[0] == (0, 0, 0)
    assert len(structure_colours([f"label{i}" for i in range(40)])) == 40


def test_tables_beside_label_maps(tmp_path: Path) -> None:
    write_label_names(tmp_path, NAMES)
    colours = [list(colour) for colour in structure_colours(NAMES)]
    entries = json.loads((tmp_path / "labels.json").read_text())["labels"]
    assert [entry["name"] for entry in entries] == list(NAMES)
    assert [entry["value"] for entry in entries] == list(range(len(NAMES)))
    assert [entry["colour"] for entry in entries] == colours
    slicer = (tmp_path / "labels.ctbl").read_text().splitlines()
    rows = [line.split() for line in slicer if not line.startswith("#")]
    assert [[int(n) for n in (row[0], *row[2:])] for row in rows] == [
        [value, *colour, 255 if value else 0] for value, colour in enumerate(colours)
    ]
    assert [row[1] for row in rows] == [*NAMES[:4], 'left_"lobe"_<a_&_b>', "odd_name"]
    snap = (tmp_path / "labels.txt").read_text().splitlines()
    rows = [shlex.split(line) for line in snap if not line.startswith("#")]
    seen = [[0, 0, 0], *[[1, 1, 1]] * 5]
    assert [[int(n) for n in row[:7]] for row in rows] == [
        [value, *colour, *shown] for value, (colour, shown) in enumerate(zip(colours, seen, strict=True))
    ]
    assert [row[7] for row in rows] == ["Clear Label", *NAMES[1:4], "left 'lobe' <a & b>", "odd name"]
    assert all(re.fullmatch(r' *\d+( +\d+){6} +"[^"]*"', line) for line in snap if line[0] != "#")


def test_table_in_the_header() -> None:
    root = ElementTree.fromstring(label_table(NAMES))
    assert root.tag == "CaretExtension"
    entries = root.findall("VolumeInformation/LabelTable/Label")
    assert {int(entry.attrib["Key"]): entry.text for entry in entries} == {
        1: "LV", 2: "MYO", 3: "RV", 4: NAMES[4], 5: "odd name"
    }  # fmt: skip
    for entry, colour in zip(entries, structure_colours(NAMES)[1:], strict=True):
        shares = [float(entry.attrib[key]) for key in ("Red", "Green", "Blue", "Alpha")]
        assert shares == pytest.approx([*(level / 255 for level in colour), 1], abs=1e-5)
    assert root.findtext("VolumeInformation/VolumeType") == "Label"
