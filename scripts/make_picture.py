"""Draws the README's picture from the report of `make demo`: one slice clean, corrupted and at other sites.

    python scripts/make_picture.py demo/report/report.json docs/images/demo.svg

Only of the phantom: pictures of real scans must not be committed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

SIDE, GAP, LEFT, TOP = 150, 8, 96, 26  # pixels
STYLE = "font-family='system-ui, sans-serif' font-size='13' fill='#808080'"


def draw(content: dict[str, Any]) -> str:
    """Returns an SVG with a column for each data set and a row for each method."""
    columns = content["slices"]
    methods = [row["name"] for row in content["results"]["rows"]]
    width, height = LEFT + len(columns) * (SIDE + GAP), TOP + len(methods) * (SIDE + GAP)
    parts = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {STYLE}>"]
    for row, method in enumerate(methods):
        y = TOP + row * (SIDE + GAP)
        parts.append(f"<text x='0' y='{y + SIDE // 2}'>{escape(method)}</text>")
        for column, entry in enumerate(columns):
            panel = next(panel for panel in entry["panels"] if panel["row"] == method)
            parts.append(_panel(entry, panel, content["classes"], LEFT + column * (SIDE + GAP), y))
    for column, entry in enumerate(columns):
        x = LEFT + column * (SIDE + GAP) + SIDE // 2
        parts.append(f"<text x='{x}' y='16' text-anchor='middle'>{escape(entry['dataset'])}</text>")
    return "\n".join([*parts, "</svg>\n"])


def _panel(entry: dict[str, Any], panel: dict[str, Any], colours: dict[str, str], x: int, y: int) -> str:
    """Draws one slice with true (dashed white) and predicted outlines, and the Dice of its volume."""
    height, width = entry["size_mm"]
    outlines = [(line["path"], colours[line["class"]], "") for line in reversed(panel["prediction"])]
    outlines.append((entry["borders"], "#ffffff", "stroke-dasharray='3 2'"))
    paths = "".join(
        f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='1.4' {dashes}/>"
        for path, colour, dashes in outlines
    )
    size = f"width='{width}' height='{height}'"
    return (
        f"<svg x='{x}' y='{y}' width='{SIDE}' height='{SIDE}' viewBox='0 0 {width} {height}'>"
        f"<image {size} preserveAspectRatio='none' href='{entry['image']}'/>{paths}"
        f"<text x='3' y='{height - 4}' font-size='9' fill='#ffffff'>Dice {panel['dice']:.2f}</text></svg>"
    )


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draw(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")
