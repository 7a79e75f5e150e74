"""`info` lists what there is, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from coopseg.cases.splits import NAMED
from coopseg.config.methods import METHODS, PRESETS
from coopseg.config.resolve import setting_fields
from coopseg.scans.layouts import LAYOUTS


def test_facts(coopseg: Callable[..., Any]) -> None:
    content = json.loads(coopseg("info", "--json").stdout)
    assert set(content["presets"]) == set(PRESETS)
    assert set(content["methods"]) == set(METHODS)
    assert set(content["layouts"]) == set(LAYOUTS)
    assert set(content["splits"]) == {"random", *NAMED}
    assert content["splits"]["acdc-10-A"] == "10 train, 5 validate, 20 test"
    assert "cpu" in content["devices"]
    assert {"coopseg", "torch", "python"} <= set(content["versions"])
    text = coopseg("info").stdout
    for entries in content.values():
        for name, description in entries.items():
            assert f"  {name} " in text
            assert description in text


def test_every_setting_is_listed(coopseg: Callable[..., Any]) -> None:
    content = json.loads(coopseg("info", "--settings", "--json").stdout)
    listed = {name for entries in content.values() for name in entries}
    assert listed == {name for name in setting_fields() if "." in name}
    assert content["latent"]["latent.scheme"].startswith('"mixed" (dropout, channel, spatial, mixed): ')
    assert content["cases"]["cases.spacing"] == "1.36719: in-plane millimetres per pixel; null: as stored"
    assert "  cases.size " in coopseg("info", "--settings").stdout
