"""What the page is made of lies in the package."""

from __future__ import annotations

import re
from importlib import resources

from coopseg.pages.html import TEMPLATES, style
from coopseg.report.page import PAGE


def test_the_templates_are_in_the_package() -> None:
    folder = resources.files("coopseg.report") / TEMPLATES
    names = {entry.name for entry in folder.iterdir()}
    assert names == {PAGE, "macros.html"}
    assert "prefers-color-scheme: dark" in style()


def test_the_page_may_fetch_and_run_nothing() -> None:
    """The rule stands before all that it is to hold for; test_browser.py sees that nothing is blocked."""
    page = (resources.files("coopseg.report") / TEMPLATES / PAGE).read_text()
    head = page[page.index("<head>") : page.index("</head>")]
    rule = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', head)
    assert rule is not None
    assert rule.start() < head.index("<title>")
    parts = dict(part.strip().split(" ", 1) for part in rule[1].split(";"))
    assert parts.pop("default-src") == parts.pop("base-uri") == parts.pop("form-action") == "'none'"
    assert parts == {"img-src": "data:", "style-src": "'unsafe-inline'"}
