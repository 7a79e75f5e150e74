"""Pictures as text that a page can hold: PNGs as data addresses, contours as SVG paths."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from contourpy import contour_generator
from PIL import Image

from coopseg.scans.types import BACKGROUND

LARGEST = 160  # pixels of a picture's longer side; larger ones are made smaller
# Okabe and Ito's colours that stand out from grey, in the order in which classes take them.
COLOURS = ("#56b4e9", "#f0e442", "#d55e00", "#cc79a7", "#009e73", "#e69f00", "#0072b2")


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each class but the background, as #rrggbb; the first seven are all different."""
    foreground = [name for name in names if name != BACKGROUND]
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(foreground)}


def grey_png(values: np.ndarray) -> str:
    """(H, W) uint8 grey values as a data address."""
    image = Image.fromarray(np.ascontiguousarray(values))
    return _address(_smaller(image, Image.Resampling.BILINEAR))


def class_png(indices: np.ndarray, names: Sequence[str]) -> str:
    """(H, W) uint8 class indices into `names` as a data address, in the classes' colours on black."""
    colours = class_colours(names)
    image = Image.fromarray(np.ascontiguousarray(indices), mode="P")
    image.putpalette([level for name in names for level in bytes.fromhex(colours.get(name, "#000000")[1:])])
    return _address(_smaller(image, Image.Resampling.NEAREST))


def contours(indices: np.ndarray, names: Sequence[str], spacing: tuple[float, float]) -> list[dict[str, str]]:
    """The outline of every foreground class that is there, in mm from the upper left corner.

    indices: (H, W) class indices into `names`. spacing: mm of a row and of a column. An outline passes
    halfway between pixels in and out of the class. Returns {"class", "path"} with SVG path data.
    """
    found = []
    for index, name in enumerate(names):
        if name != BACKGROUND and (indices == index).any():
            found.append({"class": name, "path": _outline(indices == index, spacing)})
    return found


def _outline(mask: np.ndarray, spacing: tuple[float, float]) -> str:
    height, width = spacing
    # a rim of background closes outlines at the border; pixel (0, 0) has its centre at half a pixel
    lines = contour_generator(z=np.pad(mask, 1).astype(np.float64)).lines(0.5)
    parts = [
        "M" + "L".join(f"{(x - 0.5) * width:.1f} {(y - 0.5) * height:.1f}" for x, y in np.asarray(line)) + "Z"
        for line in lines
    ]
    return "".join(parts)


def _smaller(image: Image.Image, method: Image.Resampling) -> Image.Image:
    scale = LARGEST / max(image.size)
    if scale >= 1:
        return image
    return image.resize((round(image.width * scale), round(image.height * scale)), method)


def _address(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
