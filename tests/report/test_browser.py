"""The pages in a browser, as a reader sees them: nothing is asked for, nothing sticks out, nothing fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up_bench import large_bench

import coopseg
from coopseg.report.run import write_benchmark_report

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

Maker = Callable[..., Path]
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

pytestmark = pytest.mark.slow


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[BrowserContext]:
    """Debian's Chromium with a new profile, or skip; COOPSEG_NEEDS_BROWSER=1 makes its absence a failure."""
    chromium = shutil.which("chromium")
    missing = [
        name for name, there in (("chromium", chromium), ("playwright", find_spec("playwright"))) if not there
    ]
    if missing:
        assert not os.environ.get("COOPSEG_NEEDS_BROWSER"), f"not installed: {missing}"
        pytest.skip(f"not installed: {missing}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium, args=SWITCHES
        )
        yield context
        context.close()


def test_page_of_runs(
    make_run: Maker,
    make_evaluation: Maker,
    keep_hard_examples: Callable[[Path], None],
    browser: BrowserContext,
    tmp_path: Path,
) -> None:
    runs = [make_run("cooperative"), make_run("standard", method="standard")]
    for run in runs:
        make_evaluation(run)
    keep_hard_examples(runs[0])
    check(browser, coopseg.write_report(runs, tmp_path / "page"))


def test_page_of_a_benchmark(browser: BrowserContext, tmp_path: Path) -> None:
    bench = large_bench(tmp_path / "bench").folder
    check(browser, write_benchmark_report(bench, tmp_path / "page"))


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
