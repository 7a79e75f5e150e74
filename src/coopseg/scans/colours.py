"""Gives structures their colours, and writes names and colours in the forms that viewers read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from coopseg.scans.files import write_atomically, write_json
from coopseg.scans.labels import canonical_name
from coopseg.scans.types import BACKGROUND

RGB = tuple[int, int, int]  # 0 to 255
# Bright, to stand out from grey scans, and far from every colour of a method in results/figures.py.
CARDIAC: dict[str, RGB] = {"LV": (255, 55, 55), "MYO": (130, 255, 60), "RV": (85, 125, 255)}
PALETTE: tuple[RGB, ...] = (
    (255, 0, 210), (90, 255, 255), (255, 255, 0), (160, 60, 255), (255, 165, 135), (210, 0, 105),
    (115, 130, 20), (255, 255, 150), (190, 150, 255), (0, 255, 140),
)  # fmt: skip
JSON, SLICER, ITK_SNAP = "labels.json", "labels.ctbl", "labels.txt"
ITK_SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


def structure_colours(names: Sequence[str]) -> tuple[RGB, ...]:
    """Picks a colour for each name: background black, LV red, MYO green, RV blue, others from PALETTE."""
    spare = iter(PALETTE * (len(names) // len(PALETTE) + 1))
    fixed = {BACKGROUND: (0, 0, 0), **CARDIAC}
    return tuple(fixed.get(canonical_name(name)) or next(spare) for name in names)


def as_hex(colour: RGB) -> str:
    """Formats a colour as #rrggbb."""
    return "#" + bytes(colour).hex()


def write_label_names(folder: Path, names: Sequence[str]) -> None:
    """Write names and colours of class indices beside label maps, for programs and for two viewers.

    labels.json: {"labels": [{"value": 0, "name": "background", "colour": [0, 0, 0]}, ...]}, RGB from 0 to
    255. labels.ctbl: a colour table of 3D Slicer, in which spaces in names are underscores, as Slicer writes
    them itself. labels.txt: a label description file of ITK-SNAP.
    """
    entries = list(zip(names, structure_colours(names), strict=True))
    listed = [{"value": v, "name": name, "colour": list(rgb)} for v, (name, rgb) in enumerate(entries)]
    write_json(folder / JSON, {"labels": listed})
    slicer, snap = ["# Color table file, 3D Slicer"], []
    for value, (name, (r, g, b)) in enumerate(entries):
        seen = int(name != BACKGROUND)
        shown = _printable(name)
        slicer.append(f"{value} {'_'.join(shown.split())} {r} {g} {b} {255 * seen}")
        title = shown.replace('"', "'") if seen else "Clear Label"
        snap.append(f'{value:5} {r:5} {g:4} {b:4} {seen:8} {seen:2} {seen:2}    "{title}"')
    write_atomically(folder / SLICER, ("\n".join(slicer) + "\n").encode())
    write_atomically(folder / ITK_SNAP, (ITK_SNAP_HEAD + "\n".join(snap) + "\n").encode())


def label_table(names: Sequence[str]) -> bytes:
    """Returns names and colours of the foreground as the XML that TotalSegmentator puts into label maps.

    It is the label table of a CaretExtension, as Connectome Workbench defines it; colours lie in [0, 1].

    >>> b'<Label Key="1"' in label_table(["background", "LV"])
    True
    """
    root = ElementTree.Element("CaretExtension")
    volume = ElementTree.SubElement(root, "VolumeInformation", Index="0")
    table = ElementTree.SubElement(volume, "LabelTable")
    for value, (name, colour) in enumerate(zip(names, structure_colours(names), strict=True)):
        if name != BACKGROUND:
            shares = (f"{level / 255:.6g}" for level in colour)
            own: dict[str, str] = dict(zip(("Red", "Green", "Blue"), shares, strict=True))
            entry = ElementTree.SubElement(table, "Label", {"Key": str(value), **own, "Alpha": "1"})
            entry.text = _printable(name)
    ElementTree.SubElement(volume, "StudyMetaDataLinkSet")
    ElementTree.SubElement(volume, "VolumeType").text = "Label"
    return ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _printable(name: str) -> str:
    """Replaces control characters, which XML forbids and which would break a line."""
    return "".join(letter if letter.isprintable() else " " for letter in name)
