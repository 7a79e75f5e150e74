"""What the page is made of lies in the package."""

from __future__ import annotations

from importlib import resources

from coopseg.report.page import PAGE, STYLE, TEMPLATES


def test_the_templates_are_in_the_package() -> None:
    folder = resources.files("coopseg.report") / TEMPLATES
    names = {entry.name for entry in folder.iterdir()}
    assert names == {PAGE, STYLE, "macros.html"}
    assert "prefers-color-scheme: dark" in (folder / STYLE).read_text()
