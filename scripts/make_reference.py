"""Makes the pages of docs/reference that follow from the source: commands, settings, rules, Python.

    python scripts/make_reference.py

They are built from signatures, not from --help, whose layout depends on the terminal and on libraries.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typer.models import OptionInfo

import coopseg
from coopseg.benchmark.request import Request
from coopseg.cases.splits import NAMED
from coopseg.checks.rules import RULES, Finding, Report
from coopseg.cli.main import app
from coopseg.config.methods import METHODS, PRESETS, RIVALS
from coopseg.config.section import UNDER_RIVALS, Overrides
from coopseg.config.settings import Settings
from coopseg.evaluation.run import Evaluation
from coopseg.inference.model import Model
from coopseg.measures.frames import Frame
from coopseg.measures.function import Measured
from coopseg.measures.patients import Patient
from coopseg.measures.stack import Slices
from coopseg.scans.types import Dataset, Labels, Scan, ScanRef

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
MADE = "<!-- made by scripts/make_reference.py; do not edit by hand -->"
KINDS: dict[Any, str] = {
    dict[str, dict[str, Any]]: "values by method and key",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "switch",
    Path: "path",
}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min": "≥", "max": "≤"}
CLASSES = (
    Request,
    Report,
    Finding,
    Dataset,
    Labels,
    ScanRef,
    Scan,
    Model,
    Evaluation,
    Patient,
    Measured,
    Frame,
    Slices,
)
WIDTH = 100  # of a signature


def escape(text: str) -> str:
    """Returns plain text for a table cell or paragraph; what stands between backticks stays as it is."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    marks = {"|": r"\|", "*": r"\*", "<": "&lt;"}
    whole = ["".join(marks.get(c, c) for c in part) if not n % 2 else part for n, part in enumerate(parts)]
    return "".join(whole).replace("`|`", r"`\|`")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """GitHub's Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(title: str, *parts: str) -> str:
    """Joins the parts of a page under its title."""
    return "\n\n".join((MADE, f"# {title}", *parts)) + "\n"


# commands


def verbs() -> dict[str, Callable[..., Any]]:
    """Returns the functions behind the verbs, in the order of the program."""
    return {info.name: info.callback for info in app.registered_commands if info.name and info.callback}


def parameters(verb: Callable[..., Any]) -> list[tuple[str, Any, Any, inspect.Parameter]]:
    """Returns (name as typed, type, typer's description, parameter) of what a verb takes."""
    hints = get_type_hints(verb, include_extras=True)
    found = []
    for name, parameter in inspect.signature(verb).parameters.items():
        described = getattr(hints[name], "__metadata__", ())
        if described:
            info = described[0]
            found.append((typed_name(name, info), get_args(hints[name])[0], info, parameter))
    return found


def typed_name(name: str, info: Any) -> str:
    """Returns what the user types; typer takes the first declaration of an annotation for the default."""
    declared = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
    if declared:
        return " / ".join(declared).replace("/--", " / --")
    return f"--{name.replace('_', '-')}" if isinstance(info, OptionInfo) else info.metavar or name.upper()


def options(verb: Callable[..., Any]) -> set[str]:
    """Returns every --option of a verb."""
    return {word for typed, *_ in parameters(verb) for word in typed.split() if word.startswith("--")}


def kind_of(hint: Any, limits: Any = None) -> str:
    """Says in words what may be given."""
    inner = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if get_origin(hint) is tuple and inner[1:] == [...]:
        return "list of " + {int: "whole numbers", str: "names"}[inner[0]]
    if get_origin(hint) is tuple:
        return "two " + {int: "whole numbers", float: "numbers"}[inner[0]]
    if type(None) in get_args(hint) or get_origin(hint) is list:
        return kind_of(inner[0], limits)
    bounds = [f"{BOUNDS[key]} {value:g}" for key, value in (limits or {}).items() if value is not None]
    return " ".join([KINDS[hint], ", ".join(bounds)]).strip()


def default_of(info: Any, parameter: inspect.Parameter) -> str:
    """Returns the default of an option as the page shows it."""
    if parameter.default is inspect.Parameter.empty:
        return "required"
    if isinstance(info.show_default, str):
        return escape(info.show_default)
    if isinstance(parameter.default, bool):
        return "on" if parameter.default else "off"
    return "" if parameter.default is None else f"`{parameter.default}`"


def command_page() -> str:
    """Returns the page of verbs and options."""
    parts = ["Every verb also explains itself: `coopseg VERB --help`. `coopseg --version` shows the version."]
    for name, verb in verbs().items():
        rows, usage = [], f"coopseg {name}"
        for typed, hint, info, parameter in parameters(verb):
            required = parameter.default is inspect.Parameter.empty
            if not typed.startswith("--"):
                usage += f" {typed}" if required else f" [{typed}]"
            elif required:
                usage += f" {typed} {parameter.name.upper()}"
            value = info.metavar or kind_of(hint, {"min": info.min, "max": info.max})
            rows.append((f"`{typed}`", escape(value), default_of(info, parameter), escape(info.help or "")))
        summary, *more = inspect.cleandoc(verb.__doc__ or "").split("\n\n")
        text = "\n\n".join(map(escape, (summary, *more)))
        parts.append(f"## {name}\n\n`{usage} [OPTIONS]`\n\n{text}")
        parts.append(table(("argument", "value", "default", "meaning"), rows))
    return page("Commands", *parts)


# settings


def sections() -> dict[str, type[BaseModel]]:
    """Returns the sections of the settings, and those within them, by name."""
    found: dict[str, type[BaseModel]] = {}

    def collect(kind: type[BaseModel], prefix: str) -> None:
        for name, field in kind.model_fields.items():
            if isinstance(field.default, BaseModel):
                found[prefix + name] = type(field.default)
                collect(type(field.default), f"{prefix}{name}.")

    collect(Settings, "")
    return found


def setting_rows(section: type[BaseModel], prefix: str) -> list[tuple[str, ...]]:
    """Returns a table line for each setting of a section: name, value, default, meaning."""
    rows: list[tuple[str, ...]] = []
    for name, field in section.model_fields.items():
        if not isinstance(field.default, BaseModel):
            limits = {key: getattr(m, key) for m in field.metadata for key in BOUNDS if hasattr(m, key)}
            kind = kind_of(field.annotation, limits)
            default = f"`{value_text(field.default)}`"
            rows.append((f"`{prefix}{name}`", escape(kind), default, escape(field.description or "")))
    return rows


def value_text(value: Any) -> str:
    """As one would type it; floats without their rounding errors."""
    return json.dumps(json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.6g}")))


def changes(layer: Overrides) -> str:
    """Describes a preset or method by the settings it changes."""
    flat = {f"{section}.{key}": value for section, entries in layer.items() for key, value in entries.items()}
    return ", ".join(f"`{key}={value_text(value)}`" for key, value in flat.items()) or "nothing"


def settings_page() -> str:
    """Returns the page of settings, presets, methods and named splits."""
    head = ("setting", "value", "default", "meaning")
    parts = [
        "Change a setting with `--set SECTION.KEY=VALUE`, the value as in YAML, or in Python with "
        '`settings={"SECTION.KEY": VALUE}`. Preset first, then method, then these. A name or value that is '
        "not known is refused. `coopseg info --settings` lists the same."
    ]
    for name, section in sections().items():
        parts.append(f"## {name}\n\n{escape(section.__doc__ or '')}")
        parts.append(table(head, setting_rows(section, f"{name}.")))
    for title, layers, option in (("Presets", PRESETS, "--preset"), ("Methods", METHODS, "--method")):
        rows = [(f"`{name}`", escape(entry.about), changes(entry.changes)) for name, entry in layers.items()]
        parts.append(f"## {title}\n\nChosen with `{option}`.")
        parts.append(table(("name", "what it is", "settings it changes"), rows))
    rivals = [(f"`{name}`", escape(entry.about)) for name, entry in RIVALS.items()]
    parts.append(
        "## Rivals\n\nChosen with `--method`, alone (their terms are then added to those of "
        f"`{UNDER_RIVALS}`) or with a method, as in `cooperative+randconv`. `module:class` is one of your "
        "own."
    )
    parts.append(table(("name", "what it is"), rivals))
    sizes = [(f"`{name}`", *(str(len(part)) for part in split)) for name, split in NAMED.items()]
    parts.append(
        "## Named splits\n\nOf ACDC's 100 training patients, chosen with `--split`. `acdc-10-*` are the "
        "published draws of ten; that of B is validated on A's patients, since its own were partly trained "
        "on. `-dev-` has other test patients, for development; `-choose-` has for its test part the 32 "
        "patients of no draw and no test set, to choose settings by."
    )
    parts.append(table(("name", "train", "validate", "test"), sizes))
    return page("Settings, presets, methods and splits", *parts)


# rules of validate


def rules_page() -> str:
    """Returns the page of the rules of validate."""
    rows = [(f"`{r.name}`", r.severity, *map(escape, (r.means, r.why, r.do))) for r in RULES.values()]
    intro = (
        "What `coopseg validate` looks for. Errors are what training or evaluation would fail on or get "
        "wrong, warnings what is worth a look. `coopseg validate --rules` prints the same."
    )
    return page(
        "Rules of validate", intro, table(("rule", "severity", "what is found", "why", "what to do"), rows)
    )


# Python


def signature(name: str, function: Callable[..., Any]) -> str:
    """Returns a signature in one line, or in a line per parameter if that is too long."""
    found = inspect.signature(function)
    listed: list[str] = []
    keyword_only = False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            listed, keyword_only = [*listed, "*"], True
        if parameter.name not in ("self", "cls"):
            listed.append(shown(parameter))
    ends = "" if found.return_annotation in (found.empty, "None") else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(listed)}){ends}"
    if len(line) <= WIDTH:
        return line
    return "\n".join((f"{name}(", *(f"    {entry}," for entry in listed), f"){ends}"))


def shown(parameter: inspect.Parameter) -> str:
    """Returns a parameter as a signature shows it."""
    default = parameter.default
    text = (
        f"{type(default).__name__}()" if isinstance(default, BaseModel) else repr(default).replace("'", '"')
    )
    stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    ends = "" if default is parameter.empty else f" = {'...' if callable(default) else text}"
    return f"{stars}{parameter.name}: {parameter.annotation}{ends}"


def explained(title: str, thing: Any, *lines: str, level: str = "##") -> str:
    """Returns heading, first paragraph of the docstring, signature, the rest as it stands."""
    summary, _, rest = inspect.cleandoc(thing.__doc__ or "").partition("\n\n")
    code = "\n".join(line for line in lines if line)
    parts = [f"{level} {title}", escape(summary)] + ([f"```text\n{code}\n```"] if code else [])
    return "\n\n".join(parts + ([f"```text\n{rest}\n```"] if rest else []))


def methods(kind: type) -> list[str]:
    """Signatures of the public methods, and of calling an object."""
    found = []
    for name, entry in vars(kind).items():
        function = inspect.unwrap(getattr(kind, name)) if not isinstance(entry, property) else None
        if inspect.isroutine(function) and (name == "__call__" or not name.startswith("_")):
            found.append(signature(f".{name}".replace(".__call__", ""), function))
    return found


def python_page() -> str:
    """Returns the page of public names."""
    parts = [
        "The public names. Whatever a user can put right is raised as `coopseg.CoopsegError`, one line that "
        "says what was found, where, and what to do."
    ]
    homes = {"coopseg": coopseg, **{f"coopseg.{name}": getattr(coopseg, name) for name in coopseg.MODULES}}
    things = {f"{home}.{name}": getattr(at, name) for home, at in homes.items() for name in at.__all__}
    for name, thing in things.items():
        if isinstance(thing, type) and (
            issubclass(thing, Exception) or getattr(thing, "_is_protocol", False)
        ):
            parts.append(explained(name, thing, *methods(thing)))
        elif isinstance(thing, type):
            parts.append(explained(name, thing, signature(name, thing), *methods(thing)))
        elif callable(thing):
            parts.append(explained(name, thing, signature(name, thing)))
    parts.append("## What they take and return")
    for kind in CLASSES:
        fields = [f"{name}: {hint}" for name, hint in inspect.get_annotations(kind).items()]
        parts.append(explained(kind.__name__, kind, *fields, level="###"))
    return page("Python", *parts)


def render() -> dict[str, str]:
    """Returns {file name: content} of every page that this script makes."""
    return {
        "commands.md": command_page(),
        "settings.md": settings_page(),
        "validate-rules.md": rules_page(),
        "python.md": python_page(),
    }


if __name__ == "__main__":
    for file, content in render().items():
        (FOLDER / file).write_text(content, encoding="utf-8")
