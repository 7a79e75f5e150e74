"""Opens pages in a browser, as a reader sees them: nothing is fetched, sticks out or fails."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

WIDTHS = 1400, 400
SCHEMES = "light", "dark"
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What a page would do if some name got into it as markup: run a script, and fetch what tells of the reader.
INJECTED = """() => {
    const script = document.createElement("script"), image = new Image();
    script.textContent = "window.done = 1";
    image.onload = () => { window.done = 2 };
    image.src = document.location.href;
    document.body.append(script, image);
    return window.done || 0;
}"""


def note(noted: list[str], what: str, event: object) -> None:
    """Appends one of the texts of an event."""
    noted.append(getattr(event, what))


def check(browser: BrowserContext, path: Path) -> None:
    """Opens a page in every width and scheme. The screenshots beside it are for those who look."""
    grounds = set()
    for width in WIDTHS:
        for scheme in SCHEMES:
            page = browser.new_page()
            asked: list[str] = []
            said: list[str] = []
            page.on("request", partial(note, asked, "url"))
            page.on("console", partial(note, said, "text"))
            page.on("pageerror", partial(note, said, "message"))
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
            page.screenshot(path=path.with_name(f"{scheme}-{width}.png"), full_page=True)
            where = f"{scheme}, {width} pixels"
            assert not said, where
            assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()], where
            assert page.evaluate("document.documentElement.scrollWidth") <= width, where
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)"), where
            assert page.evaluate(INJECTED) == 0, where
            grounds.add((scheme, page.evaluate("getComputedStyle(document.body).backgroundColor")))
            page.close()
    assert len(grounds) == len({ground for _, ground in grounds}) == len(SCHEMES)
