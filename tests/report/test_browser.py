"""The pages of trainings and benchmarks in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import check
from made_up_bench import large_bench

import coopseg
from coopseg.report.run import write_benchmark_report

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

Maker = Callable[..., Path]

pytestmark = pytest.mark.slow


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
