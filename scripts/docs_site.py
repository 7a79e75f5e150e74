"""What MkDocs needs to show the pages of docs/ as GitHub does, and the docstrings of the source beside them.

MkDocs calls the `on_` functions while `make docs` builds the site, mkdocstrings the extension.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "coopseg"
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:results|benchmarks)/[\w./-]+)\)")  # links that leave docs/
NAMED_FENCE = re.compile(r"^(```\w+) \S+$", re.MULTILINE)  # "```json split.json"
MATHS = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
DOCTEST = re.compile(r"(?:^|(?<=\n))>>> .*?(?=\n\n|\Z)", re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages of docstrings after the others."""
    assert config.nav is not None
    config.nav.append({"Source": list(source_pages())})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page of docstrings for each package of the source."""
    for name, content in source_pages().items():
        files.append(File.generated(config, name, content=content))
    return files


def source_pages() -> dict[str, str]:
    """Returns the page of each package, with the docstrings of its modules."""
    found = {}
    for package in sorted(path.parent for path in SOURCE.rglob("__init__.py")):
        modules = [path for path in sorted(package.glob("*.py")) if path.stem != "__init__"]
        names = [dotted(package), *map(dotted, modules)]
        found[f"source/{dotted(package)}.md"] = f"# {dotted(package)}\n\n" + "\n".join(
            f"::: {name}\n"
            + ("    options: {members: false, show_root_heading: false}\n" if name == names[0] else "")
            for name in names
        )
    return found


def dotted(path: Path) -> str:
    """Returns the name by which a file or folder of the source is imported."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Takes file names off fences, and has links that leave docs/ lead to copies of the files they name."""
    for target in OUTSIDE.findall(markdown):
        if files.get_file_from_path(target) is None:
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    up = "../" * page.file.src_uri.count("/")
    return OUTSIDE.sub(rf"]({up}\1)", NAMED_FENCE.sub(r"\1", markdown))


def on_page_content(html: str, **_: Any) -> str:
    """Turns formulas into MathML, which browsers show by themselves."""

    def shown(match: re.Match[str]) -> str:
        formula = match[2].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        if match[1] == "span":
            return convert(formula)
        return f'<div style="overflow-x: auto">{convert(formula, display="block")}</div>'

    return MATHS.sub(shown, html)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Refuses a page that would ask another machine for something when it is opened."""
    if asked := re.findall(
        r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]*)"', output
    ):
        raise PluginError(f"{page.file.src_uri}: asks other machines for {', '.join(asked)}")
    return output


class Prose(griffe.Extension):
    """Has Markdown leave docstrings as they are written: examples are code, and < opens no tag."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of an object once it is read."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """Returns a docstring with its examples fenced and its angle brackets escaped."""
    parts = re.split(f"({DOCTEST.pattern})", docstring, flags=re.DOTALL)
    prose = (re.sub(r"<(?=\w)", "&lt;", part) for part in parts[::2])
    code = [f"```pycon\n{part}\n```" for part in parts[1::2]]
    return "".join(text + example for text, example in zip(prose, [*code, ""], strict=True))
