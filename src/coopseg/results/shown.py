"""A table as it is shown: its cells as text, and writers for a terminal, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from coopseg.text import spreadsheet_safe

SMALL_P = 0.001
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$",
    "×": r"$\times$", "–": "--", "<": "$<$", ">": "$>$", "[": "{[}", "]": "{]}",
}  # fmt: skip
MARKUP = re.compile(r"<(?=[A-Za-z/!?])|(?<=\])\(")  # where a tag of HTML begins, and the address of a link
ANY = re.compile("|".join(map(re.escape, SPECIAL)))


@dataclass(frozen=True)
class Shown:
    """A cell as it is shown. more: small print behind the text. mark: "best", "worse", "empty" or ""."""

    text: str
    more: str = ""
    mark: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.more}".strip()


NOTHING = Shown("–", mark="empty")


@dataclass(frozen=True)
class Heading:
    """The title of a column of numbers, and of the group of columns that it belongs to."""

    text: str
    group: str = ""


@dataclass(frozen=True)
class Line:
    """A line: what it is of, and its cells."""

    names: tuple[str, ...]
    cells: tuple[Shown, ...]


@dataclass(frozen=True)
class Table:
    """A table to be written. names: the titles of the first columns, which say what a line is of."""

    names: tuple[str, ...]
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    title: str = ""
    caption: str = ""

    def called(self, title: str, caption: str = "") -> Table:
        """Returns the table with a title and a caption."""
        return replace(self, title=title, caption=caption)


def as_text(table: Table) -> str:
    """Returns a table for a terminal; `*` marks the best of a column."""
    rows = [[*table.names, *(heading.text for heading in table.headings)]]
    for line in table.lines:
        rows.append([*line.names, *(f"{cell}{'*' * (cell.mark == 'best')}" for cell in line.cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_markdown(table: Table, *, bold: bool = True) -> str:
    """Returns a table in Markdown. bold: whether the best of a column is set in bold."""
    titles = [*table.names, *(heading.text for heading in table.headings)]
    rows = [titles, ["---"] * len(titles)]
    for line in table.lines:
        marked = [f"**{cell}**" if bold and cell.mark == "best" else str(cell) for cell in line.cells]
        rows.append([*line.names, *marked])
    return "\n".join(
        "| " + " | ".join(harmless(one_line(text)).replace("|", "\\|") for text in row) + " |" for row in rows
    )


def harmless(text: str) -> str:
    """Takes from Markdown what could load or run something: tags of HTML, links and pictures."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def as_csv(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Returns a table with these columns as CSV; empty is what was not measured.

    Names that a spreadsheet would compute are written as `spreadsheet_safe` does.
    """
    frame = pd.DataFrame(lines, columns=list(columns))
    return frame.map(spreadsheet_safe).to_csv(index=False)


def as_latex(table: Table, label: str, *, bold: bool = True) -> str:
    r"""Returns a table for \usepackage{booktabs,graphicx}. Its caption is LaTeX already."""

    def mark(text: str) -> str:
        return rf"\textbf{{{text}}}"

    titles = [*table.names, *(heading.text for heading in table.headings)]
    lines = [
        [*map(escape, line.names),
         *(mark(escape(str(c))) if bold and c.mark == "best" else escape(str(c)) for c in line.cells)]
        for line in table.lines
    ]  # fmt: skip
    layout = "l" * len(table.names) + "r" * len(table.headings)
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{table.caption}}}", rf"\label{{tab:{label}}}",
        r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{layout}}}", r"\toprule",
        " & ".join(map(escape, titles)) + r" \\", r"\midrule", *(" & ".join(line) + r" \\" for line in lines),
        r"\bottomrule", r"\end{tabular}}", r"\end{table}",
    ])  # fmt: skip


def escape(text: str) -> str:
    """Escapes any text so that LaTeX prints it."""
    return ANY.sub(lambda found: SPECIAL[found[0]], one_line(text))


def one_line(text: str) -> str:
    """Joins lines and spaces, which would break a table."""
    return " ".join(text.split())


def number_text(value: float | None, digits: int = 3) -> str:
    """Formats a number; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """Formats a number with its sign and a true minus; without where it rounds to zero."""
    text = f"{value:+.3f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def p_text(value: float) -> str:
    """Formats p by three digits; "< 0.001" below."""
    return f"< {SMALL_P}" if value < SMALL_P else f"{value:.3f}"


def percent(share: float | None) -> str:
    """Formats a share as a whole percentage."""
    return "–" if share is None else f"{100 * share:.0f} %"
