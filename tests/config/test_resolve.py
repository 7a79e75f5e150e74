"""From names and overrides to settings: what comes last wins, and nothing wrong is let through."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from coopseg.config.methods import METHODS, PRESETS
from coopseg.config.resolve import (
    override_scan_statistics,
    parse_override,
    resolve_settings,
    setting_fields,
)
from coopseg.config.settings import Settings
from coopseg.errors import CoopsegError


def test_defaults() -> None:
    assert resolve_settings(method="cooperative") == Settings()
    assert resolve_settings(preset="cpu") == resolve_settings(preset="cpu", method="coopseg")
    for preset in ("miccai2021", "lsm2022"):  # a published preset is its paper's method
        assert resolve_settings(preset=preset) == resolve_settings(preset=preset, method="cooperative")


def test_preset_then_method_then_overrides() -> None:
    assert resolve_settings(preset="lsm2022").losses.stn is False
    separate = resolve_settings(preset="lsm2022", method="standard", overrides={"latent.p": 0.1})
    assert separate.losses.separate is True
    assert separate.losses.stn is False  # of the preset: the method says nothing of it
    assert separate.latent.image is False  # the method over the preset
    assert separate.latent.p == 0.1  # the user over both
    assert (separate.preset, separate.method) == ("lsm2022", "standard")


def test_resolving_does_not_change_the_presets() -> None:
    before = repr((PRESETS, METHODS))
    resolve_settings(preset="cpu", method="standard", overrides={"training.steps": 3, "latent.p": 0.2})
    assert repr((PRESETS, METHODS)) == before


def test_overrides_as_text_equal_overrides_as_values() -> None:
    text = [
        "cases.size=[32, 48]",
        "cases.spacing=null",
        "training.learning_rate=0.01",
        "network.norm=running",
    ]
    values = {
        "cases.size": (32, 48),
        "cases.spacing": None,
        "training.learning_rate": 0.01,
        "network.norm": "running",
    }
    assert resolve_settings(overrides=text) == resolve_settings(overrides=values)
    assert resolve_settings(overrides=text).cases.size == (32, 48)


def test_seed_and_precision() -> None:
    settings = resolve_settings(seed=7, precision="bf16")
    assert (settings.seed, settings.precision) == (7, "bf16")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "cpuu"}, "unknown preset 'cpuu', did you mean 'cpu'.*; known: default, "),
        ({"method": "xyz"}, "unknown method 'xyz'; known: coopseg, "),
        ({"method": "standard+randcon"}, "unknown rival 'randcon', did you mean 'randconv'"),
        ({"method": "standard+cooperative"}, "unknown rival 'cooperative'"),
        ({"method": "randconv+standard"}, "unknown rival 'standard'"),
        ({"method": ""}, "unknown method ''"),
        ({"method": "post-dae"}, "post-dae is trained after a standard training: `coopseg benchmark"),
        ({"overrides": ["rivals.randconv.copy=2"]}, "did you mean 'rivals.randconv.copies'"),
        ({"overrides": ["rivals.randconv.copies=1"]}, "setting rivals.randconv.copies: .*greater than"),
        ({"overrides": ["latent.scem=mixed"]}, "unknown setting 'latent.scem', did you mean 'latent.scheme'"),
        ({"overrides": ["latent"]}, "cannot read setting 'latent'.*section.key=value"),
        ({"overrides": ["latent={p: 1}"]}, "unknown setting 'latent'"),
        ({"overrides": ["latent.p=[1"]}, "cannot read the value of setting"),
        ({"overrides": ["latent.p=!!python/object:os.system x"]}, "cannot read the value of setting"),
        ({"overrides": {"latent.p": 2}}, "setting latent.p: .*less than or equal to 1.*found 2"),
        ({"overrides": {"cases.size": (30, 32)}}, "setting cases: .*multiples of 16"),
        ({"overrides": {"cases.percentiles": (98, 2)}}, "setting cases: .*low < high"),
        (
            {"method": "cooperative", "overrides": {"losses.reconstruction": 0}},
            "image masks need losses.reconstruction",
        ),
        (
            {"method": "maxstyle", "overrides": {"losses.reconstruction": 0}},
            "maxstyle needs losses.reconstruction",
        ),
        ({"overrides": {"training.batch_size": 5}}, "batch_size must be even"),
        ({"overrides": {"training.epochs": None}}, "one of training.steps and training.epochs"),
        ({"precision": "16"}, "setting precision: "),
        ({"seed": -1}, "setting seed: "),
    ],
)
def test_errors_are_one_line_and_name_the_setting(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CoopsegError, match=message) as caught:
        resolve_settings(**arguments)
    assert "\n" not in str(caught.value)


def test_methods_combine() -> None:
    alone = resolve_settings(method="randconv")
    assert (alone.rivals.use, alone.latent.image, alone.losses.separate) == (("randconv",), False, True)
    under_standard = resolve_settings(method="standard+randconv", overrides={"rivals.randconv.copies": 2})
    assert (under_standard.losses.separate, under_standard.rivals.randconv.copies) == (True, 2)
    both = resolve_settings(method="cooperative+randconv+somewhere:Mine")
    assert (both.rivals.use, both.latent.image) == (("randconv", "somewhere:Mine"), True)
    assert both.method == "cooperative+randconv+somewhere:Mine"


def test_settings_are_closed_frozen_and_survive_json() -> None:
    settings = resolve_settings(preset="miccai2021")
    assert Settings.checked(settings.model_dump(mode="json")) == settings
    with pytest.raises(CoopsegError, match=r"setting cases\.sice: Extra inputs"):
        Settings.checked({"cases": {"sice": 3}})
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 3  # type: ignore[misc]


def test_values_are_read_as_yaml() -> None:
    assert parse_override(" a.b =3") == ("a.b", 3)
    assert parse_override("a.b=x=y") == ("a.b", "x=y")
    assert parse_override("a.b=[1, 2.5]") == ("a.b", [1, 2.5])


def test_fields_of_settings_with_their_defaults() -> None:
    fields = setting_fields()
    assert fields["latent.p"].default == 0.5
    assert fields["seed"].default == 0
    assert all("." in name for name in set(fields) - {"preset", "method", "seed", "precision"})


def test_scan_statistics_in_place_of_those_of_a_model() -> None:
    settings = resolve_settings(overrides=["prediction.scan_statistics=6", "latent.p=0.1"])
    assert settings.prediction.scan_statistics == 6
    for wanted, k in ((None, 6), ("off", None), ("2.5", 2.5), (3, 3), (0, 0)):
        found = override_scan_statistics(settings, wanted)
        assert found == resolve_settings(overrides={"prediction.scan_statistics": k, "latent.p": 0.1})
    for wanted in ("-1", -1, "", "on", "inf", "nan", "1e999"):
        with pytest.raises(
            CoopsegError, match=r"cannot be used; give K, a number of slices from 0 up, or off"
        ):
            override_scan_statistics(settings, wanted)


def test_networks_made_elsewhere_take_no_scan_statistics() -> None:
    settings = resolve_settings(method="monai-unet")
    with pytest.raises(CoopsegError, match="for the networks of this package, not for monai-unet"):
        override_scan_statistics(settings, "1")
    assert override_scan_statistics(settings, "off") == settings


def test_off_is_no_number_of_slices() -> None:
    """YAML reads it as false, which must not become 0: all of the scan's own."""
    with pytest.raises(CoopsegError, match=r"prediction\.scan_statistics: Input should be a valid number"):
        resolve_settings(overrides=["prediction.scan_statistics=off"])
