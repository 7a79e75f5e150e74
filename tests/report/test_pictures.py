"""The stored slices and hard examples that reach the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coopseg.errors import CoopsegError
from coopseg.report.pictures import class_colours, class_png, contours, grey_png, hard_examples
from coopseg.report.run import report_of_runs
from coopseg.report.sources import read_runs
from coopseg.scans.contours import borders, svg_path

Maker = Callable[..., Path]
NAMES = ("background", "RV", "LV")


def test_slices(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", method="standard")
    make_evaluation(first)
    make_evaluation(second, heads=["FTN"], datasets={"ACDC": "intra"}, pictures=False)
    report = report_of_runs(read_runs([first, second]))
    found = report.slices
    assert [shown.dataset for shown in found] == ["ACDC", "RandBias", "RandSpike", "Vendor B"]
    (panel,) = found[1].panels  # the other stored none
    assert (panel.row, panel.head, found[1].case) == ("cooperative", "FTN+STN", "p1_ED_copy1")
    assert found[1].size_mm == (30, 48)
    assert [outline.class_ for outline in found[1].truth] == ["RV", "LV"]
    rows = [
        row
        for row in report.runs[0].rows
        if (row["dataset"], row["case"], row["head"]) == ("RandBias", "p1_ED_copy1", "FTN+STN")
    ]
    assert panel.classes == {row["class"]: row["dice"] for row in rows}
    assert panel.dice == pytest.approx(sum(row["dice"] for row in rows) / 2)


def test_hard_examples(make_run: Maker, keep_hard_examples: Callable[[Path], None]) -> None:
    with_examples, without = make_run("a"), make_run("b", method="standard")
    keep_hard_examples(with_examples)
    (found,) = hard_examples(read_runs([with_examples, without]))
    assert found.stages == (("early", 4), ("midway", 20), ("late", 40))
    assert len(found.samples) == 2
    rows = found.samples[1].rows
    assert [(row.code, row.scheme) for row in rows] == [
        ("image", scheme) for scheme in ("none", "dropout", "channel", "spatial")
    ]
    stored = np.load(with_examples / "hard_examples" / "step000020.npz")["image_channel"][1]
    shown = Image.open(io.BytesIO(base64.b64decode(rows[2].pictures[1].partition(",")[2])))
    assert np.array_equal(np.asarray(shown), stored)


def test_a_damaged_file(make_run: Maker, keep_hard_examples: Callable[[Path], None]) -> None:
    run = make_run("a")
    keep_hard_examples(run)
    damaged = run / "hard_examples" / "step000020.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CoopsegError, match=r"step000020.npz: cannot be read"):
        hard_examples(read_runs([run]))


def decode(address: str) -> Image.Image:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def area(path: str) -> float:
    """Area within closed SVG outlines, by the shoelace formula; holes count against it."""
    total = 0.0
    for part in path.split("M")[1:]:
        points = np.array([pair.split() for pair in part.split("L")], float)
        x, y = points.T
        total += float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    return abs(total)


def test_grey() -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    assert np.array_equal(np.asarray(decode(grey_png(values[::-1]))), values[::-1])
    large = decode(grey_png(np.full((400, 200), 77, np.uint8)))
    assert large.size == (80, 160)
    assert set(np.asarray(large).ravel().tolist()) == {77}


def test_classes() -> None:
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    colours = class_colours(NAMES)
    assert list(colours) == ["RV", "LV"]
    assert len(set(class_colours([f"label{i}" for i in range(7)]).values())) == 7
    rgb = np.asarray(decode(class_png(indices, NAMES)).convert("RGB"))
    assert rgb[0, 0].tolist() == [0, 0, 0]
    for place, name in (((0, 1), "RV"), ((1, 0), "LV")):
        assert "#" + bytes(rgb[place]).hex() == colours[name]


def test_contours_enclose_the_area_in_mm() -> None:
    indices = np.zeros((40, 50), np.uint8)
    indices[10:30, 5:25] = 1
    indices[15:20, 10:15] = 0  # a hole
    outlines = {entry.class_: entry.path for entry in contours(indices, NAMES, (1.5, 2.0))}
    assert list(outlines) == ["RV"]
    pixels = int((indices == 1).sum())
    # each of eight corners is cut or filled by an eighth of a pixel
    assert area(outlines["RV"]) / 3.0 == pytest.approx(pixels - 4 / 8 + 4 / 8, abs=0.2)
    numbers = np.array(re.findall(r"[\d.]+", outlines["RV"]), float).reshape(-1, 2)
    assert numbers.min(0).tolist() == [5 * 2.0, 10 * 1.5]
    assert numbers.max(0).tolist() == [25 * 2.0, 30 * 1.5]


def test_inner_outlines_lie_on_top_and_dashes_are_drawn_once() -> None:
    """LV within MYO beside RV: the page draws the first outline last, and each border of the truth once."""
    names = ("background", "RV", "MYO", "LV")
    indices = np.zeros((30, 40), np.uint8)
    indices[2:28, 1:14] = 1
    indices[5:25, 14:34] = 2
    indices[10:20, 19:29] = 3
    shown = contours(indices, names, (1, 1))
    assert [entry.class_ for entry in shown] == ["LV", "RV", "MYO"]
    whole = [side for entry in shown for side in sides(entry.path)]
    once = sides(svg_path(borders(indices), (1, 1)))
    assert len(whole) > len(set(whole))  # LV and MYO meet, MYO and RV too
    assert len(once) == len(set(once))
    assert set(once) == set(whole)
    assert set(sides(shown[0].path)) <= set(once)


def sides(path: str) -> list[frozenset[str]]:
    """The straight parts of outlines, whatever their direction."""
    return [frozenset(side) for part in path.split("M")[1:] for side in pairwise(part.split("L"))]


def test_contours_close_at_the_border() -> None:
    (outline,) = contours(np.ones((6, 8), np.uint8), NAMES, (1, 1))
    assert area(outline.path) == pytest.approx(48 - 4 / 8)
    assert contours(np.zeros((6, 8), np.uint8), NAMES, (1, 1)) == ()
