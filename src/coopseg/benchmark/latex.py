"""The main table and the differences to each baseline as LaTeX, for packages booktabs and graphicx."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from coopseg.benchmark.captions import spikes_note
from coopseg.benchmark.view import (
    Grid,
    cell_text,
    compared_with,
    difference_text,
    differences_of,
    grid,
    places,
)
from coopseg.config.methods import title_of

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
    "{[}95\\,\\% bootstrap interval over patients, and over draws where there are several{]}, Holm-corrected "
    "$p$ of the sign-flip test over patients."
)
ANY = re.compile("|".join(map(re.escape, SPECIAL)))


def latex(results: dict[str, Any]) -> str:
    r"""Tables for \input into a document with \usepackage{booktabs,graphicx}; "" without any column.

    The scores, then the differences to each baseline that has been compared with.
    """
    if not results["columns"]:
        return ""
    main = grid(results, places(results))
    scores = [[_mark(cell_text(cell), cell["best"]) for cell in line["cells"]] for line in main["rows"]]
    caption = f"{SCORES} {escape(spikes_note(results))}".strip()
    parts = ["% \\usepackage{booktabs,graphicx}", _table(main, scores, caption, "dice")]
    parts += [_differences(results, against) for against in compared_with(results)]
    return "\n\n".join(parts) + "\n"


def _differences(results: dict[str, Any], against: str) -> str:
    compared = differences_of(results, against)
    texts = [[escape(difference_text(cell)) for cell in line["cells"]] for line in compared["rows"]]
    caption = f"Dice minus that of {escape(title_of(against))}: {DIFFERENCES}"
    return _table(compared, texts, caption, f"differences-{against}")


def escape(text: str) -> str:
    """Any text as LaTeX prints it."""
    return ANY.sub(lambda found: SPECIAL[found[0]], " ".join(text.split()))


def _mark(text: str, best: bool) -> str:
    return rf"\textbf{{{escape(text)}}}" if best else escape(text)


def _table(table: Grid, texts: Sequence[Sequence[str]], caption: str, label: str) -> str:
    titles = ["row", "head", "draws", *(place["column"] for place in table["places"])]
    lines = [
        " & ".join([*map(escape, (title_of(line["row"]), line["head"], line["draws"])), *cells]) + r" \\"
        for line, cells in zip(table["rows"], texts, strict=True)
    ]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}",
        r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{lll{'r' * len(table['places'])}}}", r"\toprule",
        " & ".join(map(escape, titles)) + r" \\", r"\midrule", *lines, r"\bottomrule",
        r"\end{tabular}}", r"\end{table}",
    ])  # fmt: skip
