"""The heart of a report in a few lines of text: its answer and the table of Dice."""

from __future__ import annotations

from typing import Any


def summary(content: dict[str, Any]) -> str:
    """Question, verdict and mean Dice of each method and head; `*` marks the best of a column.

    content: what report.json holds.
    """
    answer = content["answer"]
    lines = [content["question"], answer["verdict"], *filter(None, [answer.get("note")])]
    if content["tables"]:
        lines += ["", *_table(content["tables"][0])]
    return "\n".join(lines)


def _table(table: dict[str, Any]) -> list[str]:
    titles = [_title(column) for column in table["columns"]]
    rows = [["method", "head", *titles]]
    for row in table["rows"]:
        rows.append([row["method"], row["head"], *(_cell(cell, table["digits"]) for cell in row["cells"])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _title(column: dict[str, Any]) -> str:
    return f"{column['domain']} {column['title']}" if column["average"] else column["title"]


def _cell(cell: dict[str, Any], digits: int) -> str:
    if cell["state"] != "value":
        return str(cell["state"])
    spread = f" ± {cell['spread']:.{digits}f}" if cell["spread_over"] == "runs" else ""
    return f"{cell['mean']:.{digits}f}{spread}{'*' if cell['best'] else ''}"
