"""The main table and the differences to standard as LaTeX, for packages booktabs and graphicx."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from coopseg.benchmark.view import (
    Grid,
    cell_text,
    difference_text,
    differences_of,
    grid,
    places,
)

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$",
    "×": r"$\times$", "–": "--", "<": "$<$", ">": "$>$", "[": "{[}", "]": "{]}",
}  # fmt: skip
SCORES = (
    "Dice, mean over patients, $\\pm$ standard deviation over draws. Bold: best of a column among rows with "
    "the same draws."
)
DIFFERENCES = (
    "Dice minus that of standard training: {[}95\\,\\% bootstrap interval over patients{]}, Holm-corrected "
    "$p$ of the Wilcoxon signed-rank test."
)
ANY = re.compile("|".join(map(re.escape, SPECIAL)))


def latex(results: dict[str, Any]) -> str:
    r"""Two tables for \input into a document with \usepackage{booktabs,graphicx}; "" without any column."""
    if not results["columns"]:
        return ""
    main, compared = grid(results, places(results)), differences_of(results)
    scores = [[_mark(cell_text(cell), cell["best"]) for cell in line["cells"]] for line in main["rows"]]
    changes = [[escape(difference_text(cell)) for cell in line["cells"]] for line in compared["rows"]]
    parts = ["% \\usepackage{booktabs,graphicx}", _table(main, scores, SCORES, "dice")]
    parts += [_table(compared, changes, DIFFERENCES, "differences")] if changes else []
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Any text as LaTeX prints it."""
    return ANY.sub(lambda found: SPECIAL[found[0]], " ".join(text.split()))


def _mark(text: str, best: bool) -> str:
    return rf"\textbf{{{escape(text)}}}" if best else escape(text)


def _table(table: Grid, texts: Sequence[Sequence[str]], caption: str, label: str) -> str:
    titles = ["row", "head", "draws", *(place["column"] for place in table["places"])]
    lines = [
        " & ".join([*map(escape, (line["row"], line["head"], line["draws"])), *cells]) + r" \\"
        for line, cells in zip(table["rows"], texts, strict=True)
    ]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}",
        r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{lll{'r' * len(table['places'])}}}", r"\toprule",
        " & ".join(map(escape, titles)) + r" \\", r"\midrule", *lines, r"\bottomrule",
        r"\end{tabular}}", r"\end{table}",
    ])  # fmt: skip
