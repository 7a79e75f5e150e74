"""The stored slices and hard examples that reach the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coopseg.errors import CoopsegError
from coopseg.report.pictures import hard_examples, slice_pictures
from coopseg.report.scores import find_columns, find_methods
from coopseg.report.sources import read_runs

Maker = Callable[..., Path]


def test_slices(make_run: Maker, make_evaluation: Maker) -> None:
    first, second = make_run("a"), make_run("b", method="standard")
    make_evaluation(first)
    make_evaluation(second, heads=["FTN"], datasets={"ACDC": "intra"}, pictures=False)
    runs = read_runs([first, second])
    found = slice_pictures(find_methods(runs), find_columns(runs))
    assert [shown["dataset"] for shown in found] == ["ACDC", "RandBias", "RandSpike", "Vendor B"]
    (panel,) = found[1]["panels"]  # the other stored none
    assert (panel["method"], panel["head"], panel["case"]) == ("cooperative", "FTN+STN", "p1_ED_copy1")
    assert panel["size_mm"] == [30, 48]
    assert [outline["class"] for outline in panel["truth"]] == ["RV", "LV"]
    rows = [
        row
        for row in runs[0].rows
        if (row["dataset"], row["case"], row["head"]) == ("RandBias", "p1_ED_copy1", "FTN+STN")
    ]
    assert panel["classes"] == {row["class"]: row["dice"] for row in rows}
    assert panel["dice"] == pytest.approx(sum(row["dice"] for row in rows) / 2)


def test_hard_examples(make_run: Maker, keep_hard_examples: Callable[[Path], None]) -> None:
    with_examples, without = make_run("a"), make_run("b", method="standard")
    keep_hard_examples(with_examples)
    (found,) = hard_examples(find_methods(read_runs([with_examples, without])))
    assert found["stages"] == [
        {"name": "early", "step": 4},
        {"name": "midway", "step": 20},
        {"name": "late", "step": 40},
    ]
    assert len(found["samples"]) == 2
    rows = found["samples"][1]["rows"]
    assert [(row["code"], row["scheme"]) for row in rows] == [
        ("image", scheme) for scheme in ("none", "dropout", "channel", "spatial")
    ]
    stored = np.load(with_examples / "hard_examples" / "step000020.npz")["image_channel"][1]
    shown = Image.open(io.BytesIO(base64.b64decode(rows[2]["pictures"][1].partition(",")[2])))
    assert np.array_equal(np.asarray(shown), stored)


def test_a_damaged_file(make_run: Maker, keep_hard_examples: Callable[[Path], None]) -> None:
    run = make_run("a")
    keep_hard_examples(run)
    damaged = run / "hard_examples" / "step000020.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CoopsegError, match=r"step000020.npz: cannot be read"):
        hard_examples(find_methods(read_runs([run])))
