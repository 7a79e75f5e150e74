"""Pictures survive the way into text; contours enclose what they should."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from coopseg.report.images import class_colours, class_png, contours, grey_png

NAMES = ("background", "RV", "LV")


def decode(address: str) -> Image.Image:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def area(path: str) -> float:
    """Area within closed SVG outlines, by the shoelace formula; holes count against it."""
    total = 0.0
    for part in path.removesuffix("Z").split("Z"):
        points = np.array([pair.split() for pair in re.split("[ML]", part)[1:]], float)
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
    outlines = {entry["class"]: entry["path"] for entry in contours(indices, NAMES, (1.5, 2.0))}
    assert list(outlines) == ["RV"]
    pixels = int((indices == 1).sum())
    # each of eight corners is cut or filled by an eighth of a pixel
    assert area(outlines["RV"]) / 3.0 == pytest.approx(pixels - 4 / 8 + 4 / 8, abs=0.2)
    numbers = np.array(re.findall(r"[\d.]+", outlines["RV"]), float).reshape(-1, 2)
    assert numbers.min(0).tolist() == [5 * 2.0, 10 * 1.5]
    assert numbers.max(0).tolist() == [25 * 2.0, 30 * 1.5]


def test_contours_close_at_the_border() -> None:
    (outline,) = contours(np.ones((6, 8), np.uint8), NAMES, (1, 1))
    assert area(outline["path"]) == pytest.approx(48 - 4 / 8)
    assert contours(np.zeros((6, 8), np.uint8), NAMES, (1, 1)) == []
