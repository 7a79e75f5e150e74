"""benchmark.json: what is asked for, what can be added later, and what is refused."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from coopseg.benchmark import request as module
from coopseg.benchmark.keep import locate
from coopseg.benchmark.request import Request, read_request, write_request
from coopseg.benchmark.run import run_benchmark
from coopseg.cli.benchmark import WHERE, benchmark
from coopseg.config.methods import MAIN_ROWS
from coopseg.errors import CoopsegError


def ask(**changes: Any) -> Request:
    """A request with changes."""
    values = {"data": "data", "split": "acdc-dev", "preset": "cpu", "methods": ["standard"], "draws": "A"}
    return module.ask(**values | changes)


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


def test_a_row_can_have_a_title() -> None:
    request = ask(methods="plain=standard,rsc,ours=cooperative@1")
    assert request.rows == ("standard", "rsc", "cooperative@1")
    assert [request.title_of(row) for row in request.rows] == ["plain", "rsc", "ours"]
    more = request.extended(methods="self-challenging=rsc")
    assert [more.title_of(row) for row in more.rows] == ["plain", "self-challenging", "ours"]


def test_a_block_takes_from_the_grid_what_it_does_not_say() -> None:
    request = ask()
    more = request.extended(methods="main", draws=["B", "C"])
    assert [block.draws for block in more.blocks] == [("A",), ("B", "C")]
    assert more.blocks[1].methods == MAIN_ROWS
    assert more.blocks[1].seeds == (0,)
    more = more.extended(seeds=[1])
    assert more.blocks[2].methods == MAIN_ROWS  # standard is one of them
    assert more.blocks[2].draws == ("A", "B", "C")
    assert more.extended(seeds=[1]) == more
    assert request.extended() == request


def test_what_else_can_be_added() -> None:
    more = ask().extended(
        predictors=["a=m:f"], severities=[2.0], severity_methods="standard", equal_time=True
    )
    assert more.predictors[0].name == "a"
    assert (more.severities, more.severity_methods, more.equal_time) == ((2.0,), ("standard",), True)
    assert more.extended(severities=[0.5, 2.0], trust=["m:f"]).severities == (2.0, 0.5)
    assert more.extended(severities=[0], trust=["m:f"]).severities_of("standard") == (2.0, 0.0)
    assert more.extended(predictors=["a=m:f"], data="data", settings=()) == more


@pytest.mark.parametrize(
    "asked", [{"methods": "evil:Run"}, {"methods": "standard+evil:Run"}, {"predictors": ["a=evil:Run"]},
              {"settings": {"rivals.use": ["evil:Run"]}}]
)  # fmt: skip
def test_code_in_a_request_that_was_read_has_to_be_named(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "make_rivals", lambda rivals: pytest.fail("code ran"))
    values = module.read_arguments({"data": "d", "methods": "standard", **asked})
    values |= {"started": "", "blocks": [{"methods": values.pop("methods"), "draws": ["A"], "seeds": [0]}]}
    write_request(tmp_path, Request.model_validate(values))
    found = read_request(tmp_path)
    assert found.code == ("evil:Run",)
    says = "benchmark.json: asks for the code 'evil:Run', .* add --trust evil:Run$"
    for more in ({}, {"trust": ["evil:Other"]}, {"methods": "gin"}, {"predictors": ["b=evil:Other"]}):
        with pytest.raises(CoopsegError, match=says):
            found.extended(**more)
    with pytest.raises(CoopsegError, match=says):
        read_request(tmp_path, trusted=["evil:Other"])
    monkeypatch.setattr(module, "make_rivals", lambda rivals: ())
    assert found.extended(trust=["evil:Run"]) == found == read_request(tmp_path, trusted=["evil:Run"])
    if "settings" not in asked:
        assert found.extended(**asked).code == ("evil:Run",)


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
        ask().extended(**given)


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
        ({"predictors": ["a/b=m:f"]}, "a row cannot be called 'a/b'"),
        ({"methods": "a/b=standard"}, "a row cannot be called 'a/b'"),
        ({"methods": "standard,standard=rsc"}, "two rows are called standard; .* as TITLE=ROW"),
        ({"methods": "one=standard,one=rsc"}, "two rows are called one"),
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
    found = locate(kept, data="new", cross="near=other", split="acdc-dev", predictors=given)
    assert (found.data, found.cross) == (f"ACDC={tmp_path / 'new'}", f"near={tmp_path / 'other'}")
    assert found.split == "acdc-dev"
    assert [(entry.name, entry.target) for entry in found.predictors] == [
        ("a", "m:f"), ("b", str(tmp_path / "net.onnx")), ("c", "m:g"),
    ]  # fmt: skip
    alone = kept.model_copy(update={"cross": None, "split": "random"})
    assert locate(alone, data="new").split == "random"
    with pytest.raises(CoopsegError, match="had no --cross"):
        locate(alone, data="new", cross="other")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CoopsegError, match=r"benchmark.json: not found; --resume takes the --out"):
        read_request(tmp_path)
    (tmp_path / "benchmark.json").write_text('{"data": 3}')
    with pytest.raises(CoopsegError, match=r"benchmark.json: data: .* correct it or begin anew"):
        read_request(tmp_path)


def test_the_function_and_the_request_have_the_same_arguments_and_defaults() -> None:
    given = {name: value.default for name, value in inspect.signature(run_benchmark).parameters.items()}
    asked = given.keys() - {"out", "workers", "scheduler", "progress"}
    recorded = {"blocks", "titles", "started", "versions", "command", "seed_of_corruption"}
    assert asked == Request.model_fields.keys() - recorded | {"methods", "draws", "seeds"}
    for name in asked & Request.model_fields.keys() - {"data"}:
        default = Request.model_fields[name].get_default(call_default_factory=True, validated_data={})
        assert (given[name] or None) == (default or None), name


def test_the_program_and_the_request_have_the_same_arguments_and_defaults() -> None:
    """The options' defaults are only shown: what is not typed is left to the request."""
    shown = {name: option.default for name, option in inspect.signature(benchmark).parameters.items()}
    options = set(shown) - {"context", *WHERE}
    recorded = {"blocks", "titles", "started", "versions", "command", "seed_of_corruption"}
    assert options == Request.model_fields.keys() - recorded | {"methods", "draws", "seeds"}
    for name, field in Request.model_fields.items():
        if name in options and shown[name] not in (None, ""):
            assert shown[name] == field.default, name
    with pytest.raises(CoopsegError, match="a benchmark takes no epochs; see `coopseg benchmark --help`"):
        ask(epochs=3)
