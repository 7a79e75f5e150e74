"""A training's request: one set of names and defaults for Python, command line and record."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from coopseg.cli.train import train as verb
from coopseg.errors import CoopsegError
from coopseg.scans.layouts import open_dataset
from coopseg.training.inputs import change_request, make_request, read_inputs
from coopseg.training.request import TrainingRequest
from coopseg.training.run import train


@pytest.mark.parametrize("function", [train, verb])
def test_arguments_and_defaults_are_those_of_the_request(function: object) -> None:
    taken = inspect.signature(function).parameters  # type: ignore[arg-type]
    for name, field in TrainingRequest.model_fields.items():
        assert field.description
        if not field.is_required():
            assert (taken[name].default or None) == (field.default or None), name


def test_paths_are_absolute_and_settings_are_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "split.json").touch()
    request = make_request(data="scans", split=Path("split.json"), cache="kept", settings=["latent.p=0.2"])
    assert request.data == str(tmp_path / "scans")
    assert request.split == str(tmp_path / "split.json")
    assert request.cache == str(tmp_path / "kept")
    assert request.settings == {"latent.p": 0.2}
    assert make_request(data="scans", split="acdc-10-A").split == "acdc-10-A"
    assert TrainingRequest.model_validate_json(request.model_dump_json()) == request


def test_changes_replace_arguments_and_settings_singly() -> None:
    before = make_request(data="/scans", seed=3, settings={"latent.p": 0.2, "training.steps": 5})
    after = change_request(before, data="/moved", settings=["training.steps=6"])
    assert (after.data, after.seed) == ("/moved", 3)
    assert after.settings == {"latent.p": 0.2, "training.steps": 6}


@pytest.mark.parametrize("wrong", [{"sed": 3}, {"seed": "three"}, {"save_every": -1}])
def test_wrong_arguments_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(CoopsegError, match=next(iter(wrong))):
        make_request("/scans", **wrong)


def test_an_open_data_set_says_itself_what_it_is(phantom: dict[str, Path]) -> None:
    dataset = open_dataset(phantom["mnms"])
    request = make_request(data=dataset, settings={"cases.size": [32, 32]})
    assert (request.data, request.layout) == (str(phantom["mnms"]), "mnms")
    assert request.labels == "background=0,LV=1,MYO=2,RV=3"
    again = open_dataset(request.data, layout=request.layout, labels=request.labels)
    assert again == dataset
    with pytest.raises(CoopsegError, match="is open already"):
        make_request(data=dataset, layout="acdc")


def test_scans_without_any_label_are_named(phantom: dict[str, Path], tmp_path: Path) -> None:
    for number in range(4):
        source = next(phantom["acdc"].glob("patientP001/*_frame01.nii.gz"))
        (tmp_path / f"scan{number}.nii.gz").write_bytes(source.read_bytes())
    with pytest.raises(CoopsegError, match="no labels found"):
        read_inputs(make_request(data=tmp_path, labels="LV=1"))
