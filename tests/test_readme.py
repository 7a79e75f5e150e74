"""The README's Python runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_python_of_the_readme(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})
    assert "('background', 'RV', 'MYO', 'LV')" in capsys.readouterr().out


def test_every_verb_is_in_the_readme():
    text = README.read_text(encoding="utf-8")
    assert all(f"coopseg {verb}" in text for verb in ("train", "predict", "corrupt", "evaluate", "info"))
