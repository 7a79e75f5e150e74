"""Methods by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coopseg.config.presets import METHODS, RIVALS, ROWS
from coopseg.config.registry import register
from coopseg.config.resolve import resolve_settings
from coopseg.config.rivals import RivalSettings
from coopseg.errors import CoopsegError
from coopseg.training.rival import make_rivals

OWN = """
from coopseg.training.rival import ImageRival

class Mine(ImageRival):
    name = "mine"

class Wrong:
    name = "wrong"

class Misspelt(Mine):
    norm = "froze"
"""


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_can_be_made_and_has_settings(name: str) -> None:
    (rival,) = make_rivals(RivalSettings(use=(name,)))
    assert rival.name == name.replace("-", "_")
    assert rival.settings == RivalSettings().of(name)


def test_every_row_of_the_table_is_a_method_or_a_rival() -> None:
    assert set(ROWS) - {"post-dae"} <= {*METHODS, *RIVALS}
    assert set(RIVALS) < set(ROWS)


def test_a_class_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_methods.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (rival,) = make_rivals(resolve_settings(method="my_methods:Mine").rivals)
    assert rival.name == "mine"
    with pytest.raises(CoopsegError, match=r"my_methods:Wrong: has no norm; derive it from"):
        make_rivals(RivalSettings(use=("my_methods:Wrong",)))
    with pytest.raises(CoopsegError, match=r"my_methods:Misspelt: its norm is 'froze'; take one of shared, "):
        make_rivals(RivalSettings(use=("my_methods:Misspelt",)))
    with pytest.raises(CoopsegError, match=r"'my_methods:Other' cannot be imported"):
        make_rivals(RivalSettings(use=("my_methods:Other",)))
    with pytest.raises(
        CoopsegError, match=r"'nowhere:Mine' cannot be imported \(No module named 'nowhere'\)"
    ):
        make_rivals(RivalSettings(use=("nowhere:Mine",)))


@pytest.mark.parametrize("name", ["randconv", "cooperative", "", "a+b", "a:b", "a,b"])
def test_names_that_cannot_be_taken(name: str) -> None:
    with pytest.raises(CoopsegError, match="cannot be called"):
        register(name, object)  # type: ignore[arg-type]


def test_names_cost_no_torch() -> None:
    code = "import sys; import coopseg.config.resolve; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
