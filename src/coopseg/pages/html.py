"""Fills templates: each page is one document that needs no other file and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = "templates"


def environment(package: str) -> Environment:
    """Returns what fills the templates of a package; names in them are escaped."""
    return Environment(
        loader=PackageLoader(package, TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def source(name: str, package: str = "coopseg.pages") -> Markup:
    """Returns a file beside the templates of a package as it is, such as the style of all pages."""
    own = environment(package)
    assert own.loader is not None
    return Markup(own.loader.get_source(own, name)[0])


def style() -> Markup:
    """Returns the style that all pages share."""
    return source("style.css")


def script_hash(script: str) -> str:
    """Returns what a Content-Security-Policy calls a script that may run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
