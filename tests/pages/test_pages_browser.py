"""The page of a patient in a browser, by pointer and by keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import INK, check

import coopseg
from coopseg.measures.function import Cell
from coopseg.measures.remarks import remark_on
from coopseg.pages.series import Volume
from coopseg.pages.write import Beat, write_patient, write_worklist
from coopseg.scans.labels import labels_to_indices
from coopseg.scans.nifti import read_labels

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.slow


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of a phantom's cine with its true labels, and the list beside it."""
    data = coopseg.write_phantom(tmp_path / "phantom", patients=1, size=96)["mnms"]
    dataset = coopseg.open_dataset(data)
    ref = dataset.items[0]
    scan = coopseg.read_image(ref.image)
    assert ref.label
    indices = labels_to_indices(
        read_labels(ref.label).data, dataset.labels, names=dataset.labels.names, path=ref.label
    )
    out = tmp_path / "pages"
    (out / "one").mkdir(parents=True)
    called = tuple(f"series {40 + number}" for number in range(scan.data.shape[2]))
    shown = Volume("one", "", scan, indices, remark_on(["LV: nothing in phase 2"]), called)
    entry = write_patient(
        out / "one" / "one.html", "patient one", [shown],
        names=dataset.labels.names, provenance=[("model", "the truth")],
        measures={"LV EF": Cell("60 %"), "RV EF": Cell("–", "RV: empty at ES")},
        beat=Beat(1, 2, "the largest and the smallest LV"), worklist="../index.html",
    )  # fmt: skip
    write_worklist(out / "index.html", [replace(entry, link="one/one.html")], title="1 patient")
    return out / "one" / "one.html"


def test_pages_in_every_width_and_scheme(page: Path, browser: BrowserContext) -> None:
    check(browser, page)
    check(browser, page.parents[1] / "index.html")


def test_by_pointer_and_by_keys(page: Path, browser: BrowserContext) -> None:
    tab = browser.new_page()
    tab.goto(page.as_uri())
    tab.wait_for_function(f"{INK} > 0")

    def where() -> str:
        return tab.inner_text("#where")

    def changes(do: Callable[[], object]) -> bool:
        before = where()
        do()
        return where() != before

    tab.set_viewport_size({"width": 1400, "height": 1000})
    for name in (".legend", "#where"):  # seen without scrolling
        box = tab.locator(name).bounding_box()
        assert box
        assert box["y"] + box["height"] < 1000
    assert "phase 2 of 3, ED" in where()
    number = int(where().split()[1])
    assert f"(series {39 + number} of the scanner), " in where()
    assert changes(lambda: tab.keyboard.press("s"))
    assert "phase 3 of 3, ES" in where()
    assert tab.get_attribute("[data-mark=ES]", "aria-pressed") == "true"
    assert changes(lambda: tab.click("[data-mark=ED]"))
    assert changes(lambda: tab.keyboard.press("ArrowLeft"))
    assert where().endswith("phase 1 of 3")
    assert changes(lambda: tab.keyboard.press("d"))
    assert "phase 2 of 3, ED" in where()
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("svg.curve text.mark").all_text_contents() == ["ED", "ES"]
    first = tab.evaluate(INK)
    assert changes(lambda: tab.keyboard.press("ArrowUp"))
    assert tab.evaluate(INK) != first
    assert changes(lambda: tab.keyboard.press("ArrowDown"))
    assert tab.evaluate(INK) == first
    assert changes(lambda: tab.keyboard.press("ArrowRight"))
    assert "phase 2 of" in where()
    assert changes(lambda: tab.keyboard.press("ArrowLeft"))
    assert "phase 1 of" in where()
    tab.focus("#slices")
    assert changes(lambda: tab.keyboard.press("Home"))
    assert where().startswith("slice 1 of")
    box = tab.locator("svg.curve").bounding_box()
    assert box
    assert changes(lambda: tab.mouse.click(box["x"] + box["width"] * 0.97, box["y"] + box["height"] / 2))
    count = tab.evaluate("scan.series[0].slices")
    for _ in range(count):
        tab.keyboard.press("ArrowUp")
    assert where().startswith(f"slice {count} of {count}")
    middle = count // 2
    for _ in range(count - middle):
        tab.keyboard.press("ArrowDown")
    assert tab.locator("#outlines path").count() > 0
    tab.keyboard.press("c")
    assert tab.locator("#outlines path").count() == 0
    tab.click("#show")
    fills = tab.locator("#outlines path").evaluate_all("all => all.map(path => path.getAttribute('fill'))")
    assert len(set(fills)) == len(fills) == 3  # a border that two share has one colour, but each is filled
    before = where()
    tab.click("#play")
    tab.wait_for_function("before => document.getElementById('where').innerText !== before", arg=before)
    tab.click("#play")
    tab.hover("#stage")
    before = where()
    tab.mouse.wheel(0, 100)
    tab.wait_for_function("before => document.getElementById('where').innerText !== before", arg=before)
    tab.click("text=all patients")
    assert tab.url.endswith("index.html")
    tab.close()
