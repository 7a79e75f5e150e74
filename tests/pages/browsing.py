"""Opens pages in a browser, as a reader sees them: nothing is fetched, sticks out or fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

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

# How bright the slice is that is drawn.
INK = """(() => {
    const canvas = document.getElementById("slice");
    const values = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return values.filter((value, place) => place % 4 === 0).reduce((sum, value) => sum + value, 0);
})()"""

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


@contextmanager
def opened(
    browser: BrowserContext, address: str, *, width: int, scheme: str
) -> Iterator[tuple[Page, list[str], list[str]]]:
    """Opens an address; yields the page, the addresses that it asks for, and what the console says."""
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", partial(note, asked, "url"))
    page.on("console", partial(note, said, "text"))
    page.on("pageerror", partial(note, said, "message"))
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(address)
    yield page, asked, said
    page.close()


def check(browser: BrowserContext, path: Path) -> None:
    """Opens a page in every width and scheme. The screenshots beside it are for those who look."""
    grounds = set()
    for width, scheme in product(WIDTHS, SCHEMES):
        with opened(browser, path.as_uri(), width=width, scheme=scheme) as (page, asked, said):
            page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
            page.screenshot(path=path.with_name(f"{scheme}-{width}.png"), full_page=True)
            where = f"{scheme}, {width} pixels"
            assert not said, where
            assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()], where
            assert page.evaluate("document.documentElement.scrollWidth") <= width, where
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)"), where
            assert page.evaluate(INJECTED) == 0, where
            grounds.add((scheme, page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert len(grounds) == len({ground for _, ground in grounds}) == len(SCHEMES)
