"""The page: what was collected, charts drawn from it, and the template that puts both in order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from coopseg.benchmark.view import p_text, signed
from coopseg.report.answer import OUTCOMES
from coopseg.report.charts import dice_floor, line_chart, strip_chart
from coopseg.text import clock

TEMPLATES, PAGE, STYLE = "templates", "page.html", "style.css"
COLOURS = 7  # of methods in style.css; an eighth method begins again


def render(content: dict[str, Any]) -> str:
    """The page on the content of `collect`, one HTML document that needs no other file."""
    return fill(PAGE, content | {"charts": draw(content)})


def fill(template: str, content: dict[str, Any]) -> str:
    """A template of this package, filled; `style` is the text of the style sheet."""
    environment = Environment(
        loader=PackageLoader("coopseg.report", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clock": clock, "setting": setting_text, "number": number_text}
    environment.filters |= {"by_name": by_name, "neighbours": neighbours}
    environment.globals |= {"signed": signed, "p_text": p_text, "outcomes": OUTCOMES}
    loader = environment.loader
    assert loader is not None
    style = Markup(loader.get_source(environment, STYLE)[0])
    return environment.get_template(template).render(content, style=style)


def draw(content: dict[str, Any]) -> dict[str, Any]:
    """The geometry of every chart."""
    colours = {method["name"]: number % COLOURS for number, method in enumerate(content["methods"])}
    floor = dice_floor(content["dots"])
    training = content["training"]
    return {
        "colours": colours,
        "dots": [column | strip_chart(column, colours, low=floor) for column in content["dots"]],
        "losses": [
            {"name": curve["name"], **line_chart(curve["lines"], colours, log=True)}
            for curve in training["losses"]
        ],
        "validation": [
            {"name": curve["name"], **line_chart(curve["lines"], colours)} for curve in training["validation"]
        ],
        "learning_rate": line_chart(training["learning_rate"], colours)
        if training["learning_rate"]
        else None,
        "rises": [
            curve | line_chart(curve["lines"], colours, log=True, level=1) for curve in training["rises"]
        ],
    }


def setting_text(value: Any) -> str:
    """A setting as one would write it on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def number_text(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def by_name(entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries by their names."""
    return {entry["name"]: entry for entry in entries}


def neighbours(entries: Iterable[dict[str, Any]], key: str) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Neighbours that agree in a key, together, in the order given."""
    return [(value, list(group)) for value, group in groupby(entries, key=itemgetter(key))]
