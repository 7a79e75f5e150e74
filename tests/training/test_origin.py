"""What is found of a training: its data and split, or a line that says what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import coopseg
from coopseg.cases.splits import REQUEST, RUN, split_of_run
from coopseg.training.origin import Origin, find_split_of, open_origin

TINY = {"network.width": 2, "cases.size": [32, 32], "cases.spacing": 8.0, "training.steps": 1}


def test_finds_data_and_split(phantom: dict[str, Path], tmp_path: Path) -> None:
    data = Path(shutil.copytree(phantom["acdc"], tmp_path / "data"))
    run = coopseg.train(data, tmp_path / "run", preset="quick", settings=TINY, device="cpu")
    found = open_origin(run)
    assert isinstance(found, Origin)
    assert found.dataset.root == data
    assert found.split == split_of_run(run) == find_split_of(run)
    shutil.move(data, tmp_path / "moved")
    assert open_origin(run) == f"the data of the training cannot be opened ({_no_folder(data)})"
    (run / REQUEST).unlink()
    missing = f"{run}: no request.json and run.json of a finished training beside the weights"
    assert open_origin(run) == missing
    (run / RUN).unlink()
    assert open_origin(run) == missing
    assert find_split_of(run) is None


def _no_folder(data: Path) -> str:
    with pytest.raises(coopseg.CoopsegError) as error:
        coopseg.open_dataset(data)
    return str(error.value)
