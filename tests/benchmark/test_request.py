"""benchmark.json: what is asked for, what can be added later, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coopseg.benchmark.asking import extend, locate, make_block, make_request
from coopseg.benchmark.request import read_request, write_request
from coopseg.config.methods import MAIN_ROWS
from coopseg.errors import CoopsegError


def ask(**changes: Any) -> Any:
    """A request with changes."""
    values = {
        "data": "data", "split": "acdc-dev", "preset": "cpu", "started": "now",
        "blocks": [make_block(changes.pop("methods", ["standard"]), ["A"], [0])],
    }  # fmt: skip
    return make_request(values | changes)


def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    request = ask(
        cross="M&Ms=other", settings=["training.steps=5"], predictors=["a=m:f", "b=run"],
        severities=(0.5,), severity_methods="main,a", methods=[*MAIN_ROWS],
    )  # fmt: skip
    write_request(tmp_path, request)
    assert read_request(tmp_path) == request
    stored = json.loads((tmp_path / "benchmark.json").read_text())
    assert stored["data"] == str(tmp_path / "data")
    assert stored["cross"] == f"M&Ms={tmp_path / 'other'}"
    assert stored["settings"] == {"training.steps": 5}
    assert stored["blocks"] == [{"methods": list(MAIN_ROWS), "draws": ["A"], "seeds": [0]}]
    assert stored["predictors"] == [
        {"name": "a", "target": "m:f"}, {"name": "b", "target": str(tmp_path / "run")}
    ]  # fmt: skip
    assert stored["severity_methods"] == [*MAIN_ROWS, "a"]
    assert request.severities_of("a") == (0.5,)
    assert request.severities_of("rsc") == ()


def test_a_block_takes_from_the_grid_what_it_does_not_say() -> None:
    request = ask()
    more = extend(request, methods="main", draws=["B", "C"])
    assert [block.draws for block in more.blocks] == [("A",), ("B", "C")]
    assert more.blocks[1].methods == MAIN_ROWS
    assert more.blocks[1].seeds == (0,)
    more = extend(more, seeds=[1])
    assert more.blocks[2].methods == MAIN_ROWS  # standard is one of them
    assert more.blocks[2].draws == ("A", "B", "C")
    assert extend(more, seeds=[1]) == more
    assert extend(request) == request


def test_what_else_can_be_added() -> None:
    more = extend(ask(), predictors=["a=m:f"], severities=[2.0], severity_methods="standard", equal_time=True)
    assert more.predictors[0].name == "a"
    assert (more.severities, more.severity_methods, more.equal_time) == ((2.0,), ("standard",), True)
    assert extend(more, severities=[0.5, 2.0]).severities == (2.0, 0.5)
    assert extend(more, severities=[0]).severities_of("standard") == (2.0, 0.0)
    assert extend(more, predictors=["a=m:f"], data="data", settings=()) == more


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"preset": "default"}, "another preset: the benchmark began with 'cpu', now given 'default'"),
        ({"data": "elsewhere"}, "another data"),
        ({"cross": "elsewhere"}, "another cross"),
        ({"settings": ["training.steps=5"]}, "another settings"),
        ({"copies": 1}, "another copies"),
        ({"split": "acdc-10"}, "another split"),
    ],
)
def test_what_cannot_change(given: dict[str, Any], says: str) -> None:
    with pytest.raises(CoopsegError, match=says):
        extend(ask(), **given)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": ["standrad"]}, "unknown method 'standrad', did you mean 'standard'"),
        ({"methods": ["nothing:Class"]}, "'nothing:Class' cannot be imported"),
        ({"preset": "big"}, "unknown preset 'big'"),
        ({"settings": ["training.stps=5"]}, "unknown setting 'training.stps'"),
        ({"precision": "16"}, "precision: .*'32' or 'bf16'"),
        ({"copies": 0}, "copies must be 1 or more, found 0"),
        ({"methods": []}, "nothing to do"),
        ({"severities": (0.5,)}, "belong together"),
        ({"severities": (-1,), "severity_methods": "standard"}, "severities must be 0 or more, found -1"),
        ({"severities": (2,), "severity_methods": "rsc"}, "rsc not in the grid"),
        ({"predictors": ["a"]}, "--predictor 'a': write it as NAME=module:callable"),
        ({"predictors": ["standard=m:f"]}, "two rows are called standard"),
        ({"predictors": ["a/b=m:f"]}, "a predictor cannot be called 'a/b'"),
        ({"predictors": ["cooperative-no-latent=m:f"]}, "cannot be called .*, the name of a training"),
        ({"methods": ["rsc"], "equal_time": True}, "--equal-time needs one of the rows standard"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CoopsegError, match=says):
        ask(**changes)


def test_a_kept_request_finds_its_data_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").touch()
    kept = ask(cross="far=x", predictors=["a=m:f", "b=net"]).model_copy(
        update={"data": "ACDC=…/acdc", "cross": "far=…/x", "split": "…/splits"}
    )
    with pytest.raises(CoopsegError, match=r"had its split in …/splits; give it with --split"):
        locate(kept, data="new", cross="new")
    with pytest.raises(CoopsegError, match="had a --cross; give it as it was"):
        locate(kept, data="new", split="acdc-dev")
    given = ["b=net.onnx", "c=m:g"]
    found, added = locate(kept, data="new", cross="near=other", split="acdc-dev", predictors=given)
    assert (found.data, found.cross) == (f"ACDC={tmp_path / 'new'}", f"near={tmp_path / 'other'}")
    assert found.split == "acdc-dev"
    assert [(entry.name, entry.target) for entry in found.predictors] == [
        ("a", "m:f"), ("b", str(tmp_path / "net.onnx")),
    ]  # fmt: skip
    assert added == ("c=m:g",)
    assert extend(found, predictors=added).predictors[-1].name == "c"
    alone = kept.model_copy(update={"cross": None, "split": "random"})
    assert locate(alone, data="new")[0].split == "random"
    with pytest.raises(CoopsegError, match="had no --cross"):
        locate(alone, data="new", cross="other")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=r"benchmark.json: not found; --resume takes the --out"):
        read_request(tmp_path)
    (tmp_path / "benchmark.json").write_text('{"data": 3}')
    with pytest.raises(CoopsegError, match=r"benchmark.json: data: .* correct it or begin anew"):
        read_request(tmp_path)
