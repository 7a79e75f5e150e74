"""The service in a browser: a scan is chosen, and its page is drawn."""

from __future__ import annotations

import zipfile
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from asking import Asking, Toy, eventually, started
from browsing import INK, SCHEMES, WIDTHS, note, opened

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.slow
FILES = "labels", "measures", "dicom"


def test_from_the_choice_of_a_file_to_its_page(
    browser: BrowserContext, model: Path, phantom: dict[str, Path], tmp_path: Path
) -> None:
    scans = sorted(phantom["mnms"].rglob("*_sa.nii.gz"))[:2]
    with started(model, tmp_path / "tmp") as (_, service):
        tab = browser.new_page()
        said: list[str] = []
        tab.on("console", partial(note, said, "text"))
        tab.on("pageerror", partial(note, said, "message"))
        tab.goto(f"http://127.0.0.1:{service.port}/")
        with tab.expect_file_chooser() as chooser:
            tab.click("text=Choose files")
        chooser.value.set_files(scans[0])
        with browser.expect_page() as opened:
            tab.click("text=Open the page", timeout=120_000)
        page = opened.value
        page.on("console", partial(note, said, "text"))
        page.wait_for_selector("#slice")
        eventually(lambda: page.evaluate(INK) > 0)
        assert page.title().startswith(scans[0].name.removesuffix(".nii.gz"))
        page.close()

        tab.reload()  # the tab remembers
        tab.wait_for_selector("text=Open the page")
        tab.set_input_files("#files", scans)
        with browser.expect_page() as opened:
            tab.click("text=Open the list of 2 patients", timeout=120_000)
        page = opened.value
        page.click("tbody a >> nth=1")
        page.wait_for_selector("#slice")
        eventually(lambda: page.evaluate(INK) > 0)
        page.click("text=all patients")
        assert page.url.endswith("index.html")
        page.close()
        with tab.expect_download() as downloading:
            tab.click("text=Download label maps >> nth=0")
        with zipfile.ZipFile(downloading.value.path()) as packed:
            assert {scan.name for scan in scans} <= set(packed.namelist())

        tab.set_input_files("#files", {"name": "x.nii.gz", "mimeType": "", "buffer": b"\x1f\x8b123"})
        tab.wait_for_selector("text=failed: x.nii.gz: damaged gzip file", timeout=120_000)
        tab.focus("#jobs li:first-child button")
        tab.keyboard.press("Enter")
        eventually(lambda: tab.locator("#jobs > li").count() == 2)
        ours = "willReadFrequently"  # a hint to whoever looks at the canvas again and again, as this test
        assert [line for line in said if ours not in line] == []


def test_the_page_in_every_width_and_scheme(
    browser: BrowserContext, service: Asking, toy: Toy, tmp_path: Path
) -> None:
    """The screenshots are for those who look."""
    grounds = set()
    address = f"http://127.0.0.1:{service.port}/"
    for width, scheme in product(WIDTHS, SCHEMES):
        where = f"{scheme}, {width} pixels"
        with opened(browser, address, width=width, scheme=scheme) as (tab, asked, said):
            toy.gate.set()
            for name in ("odd.nii", f"damaged_{'x' * 80}.nii", f"odd_study_{'x' * 80}.nii"):
                tab.set_input_files("#files", {"name": name, "mimeType": "", "buffer": b"1"})
            eventually(lambda: tab.locator(".page:not([hidden])").count() == 2)
            tab.wait_for_selector(".failed")
            assert tab.inner_text("details >> nth=0").splitlines()[-1].startswith("odd_study_xx"), where
            assert [tab.locator(f"[data-file={name}]:visible").count() for name in FILES] == [2, 2, 1], where
            toy.gate.clear()
            for name in ("c.nii", "d.nii"):
                tab.set_input_files("#files", {"name": name, "mimeType": "", "buffer": b"1"})
            tab.wait_for_selector("text=waiting, place 1")
            tab.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
            assert said == [], where
            assert all(url.startswith(f"http://127.0.0.1:{service.port}/") for url in asked), where
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, where
            grounds.add((scheme, tab.evaluate("getComputedStyle(document.body).backgroundColor")))
            order = []
            for _ in range(4):
                tab.keyboard.press("Tab")
                order.append(tab.evaluate("document.activeElement.id || document.activeElement.tagName"))
            assert order[:2] == ["files", "folder"], where
            for _ in range(2):
                tab.click("#jobs button >> nth=0")
    assert len(grounds) == len({ground for _, ground in grounds}) == len(SCHEMES)


def test_a_dropped_folder_and_too_much(browser: BrowserContext, service: Asking, toy: Toy) -> None:
    tab = browser.new_page()
    tab.goto(f"http://127.0.0.1:{service.port}/")
    tab.evaluate("""() => {
        const data = new DataTransfer();
        data.items.add(new File(["one"], "one.nii"));
        data.items.add(new File(["two"], "two.nii"));
        const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
        document.getElementById("drop").dispatchEvent(drop);
    }""")
    tab.wait_for_selector("text=Open the list of 2 patients")
    assert toy.seen == [["one.nii", "two.nii"]]
    tab.set_input_files("#files", {"name": "x.nii", "mimeType": "", "buffer": bytes(2**20 + 1)})
    assert "are too much: at most 20000 files of 1 MB" in tab.inner_text("#said")
    tab.close()


def test_a_chosen_folder_keeps_its_folders(
    browser: BrowserContext, service: Asking, toy: Toy, tmp_path: Path
) -> None:
    for name in ("a/x.nii", "b/x.nii"):
        (tmp_path / "study" / name).parent.mkdir(parents=True)
        (tmp_path / "study" / name).write_bytes(b"1")
    tab = browser.new_page()
    tab.goto(f"http://127.0.0.1:{service.port}/")
    tab.set_input_files("#folder", tmp_path / "study")
    tab.wait_for_selector(".page:not([hidden])")
    assert toy.seen == [["study/a/x.nii", "study/b/x.nii"]]
    tab.close()
