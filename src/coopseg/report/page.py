"""The page: sections of text, tables, figures and pictures, and the template that sets them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from coopseg.pages.html import environment, style
from coopseg.results.figures import save
from coopseg.results.shown import Heading, Line, Table

if TYPE_CHECKING:
    from coopseg.report.pictures import HardExamples, Slice

PAGE = "page.html"


@dataclass(frozen=True)
class Note:
    """A paragraph. kind: "caption", "plain", or "note" for what must not be overlooked."""

    text: str
    kind: str = "caption"


@dataclass(frozen=True)
class Code:
    """A command or a log."""

    text: str


@dataclass(frozen=True)
class Grid:
    """A table. wide: of scores, set close, with groups of columns."""

    table: Table
    wide: bool = False


@dataclass(frozen=True)
class Plate:
    """A figure as an SVG in a data address. alt: what it shows, in words."""

    title: str
    alt: str
    image: str
    width: int


@dataclass(frozen=True)
class Plates:
    """Small figures side by side."""

    plates: tuple[Plate, ...]


@dataclass(frozen=True)
class Slices:
    """Stored slices with contours."""

    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Hard:
    """Hard examples of a method."""

    examples: HardExamples


@dataclass(frozen=True)
class Fold:
    """What is folded away until it is asked for."""

    title: str
    blocks: tuple[Block, ...]
    open: bool = False


Block = Note | Code | Grid | Plate | Plates | Slices | Hard | Fold


@dataclass(frozen=True)
class Section:
    """A section of the page. name: its address; link: what leads to it."""

    name: str
    link: str
    title: str
    blocks: tuple[Block, ...]


def plate(figure: Figure, alt: str, title: str = "") -> Plate:
    """Turns a figure into a part of the page."""
    image = "data:image/svg+xml;base64," + base64.b64encode(save(figure, "svg")).decode()
    return Plate(title, alt, image, round(96 * figure.get_size_inches()[0]))


def fill(**content: Any) -> str:
    """Returns the page, one HTML document that needs no other file."""
    own = environment("coopseg.report")
    own.filters |= {"runs_of": runs_of, "groups": groups_of, "kind": lambda block: type(block).__name__}
    return own.get_template(PAGE).render(content, style=style())


def runs_of(lines: Sequence[Line]) -> list[list[Line]]:
    """Returns neighbouring lines of the same first name together."""
    return [list(group) for _, group in groupby(lines, key=lambda line: line.names[0])]


def groups_of(headings: Sequence[Heading]) -> list[list[Heading]]:
    """Returns neighbouring headings of the same group together."""
    return [list(group) for _, group in groupby(headings, key=lambda heading: heading.group)]


def section(name: str, link: str, title: str, blocks: Iterable[Block], otherwise: str = "") -> Section:
    """Makes a section; without any block it says why there is none."""
    return Section(name, link, title, tuple(blocks) or (Note(otherwise, "plain"),))
