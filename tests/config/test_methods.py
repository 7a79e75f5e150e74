"""Every preset, method and rival resolves, is described, and says what the papers say."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from coopseg.config.methods import (
    ABLATIONS,
    DESCRIPTIONS,
    MAIN_ROWS,
    METHODS,
    PRESETS,
    RIVALS,
    ROWS,
    TITLES,
    expand_methods,
    split_row,
    title_of,
)
from coopseg.config.resolve import register, resolve_settings
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


@pytest.mark.parametrize(("preset", "method"), list(itertools.product(PRESETS, METHODS)))
def test_every_pair_resolves(preset: str, method: str) -> None:
    settings = resolve_settings(preset=preset, method=method)
    assert (settings.preset, settings.method) == (preset, method)


def test_each_is_described_once() -> None:
    assert set(DESCRIPTIONS) == {*METHODS, *RIVALS, "post-dae"}
    said = [*DESCRIPTIONS.values(), *(preset.about for preset in PRESETS.values())]
    assert all(said)
    assert len(set(said)) == len(said)


def test_groups_of_methods() -> None:
    assert expand_methods("standard, main") == MAIN_ROWS
    assert expand_methods("all")[-2:] == ("coopseg-published", "coopseg")
    assert set(ABLATIONS) | set(ROWS) >= set(METHODS)
    assert expand_methods("randconv,module:Own") == ("randconv", "module:Own")


def test_the_two_standard_trainings_are_told_apart() -> None:
    """Published is separate_training false; in ours no gradient of the STN reaches the FTN."""
    assert ROWS[:2] == MAIN_ROWS[:2] == ("standard", "cooperative-no-latent")
    assert set(TITLES) == {*ROWS[:2], "unet", "monai-unet"}
    for row in ROWS[:2]:
        separate = resolve_settings(method=row).losses.separate
        assert title_of(row) == f"standard ({'separate STN' if separate else 'published: joint STN'})"
    assert title_of("cooperative") == "cooperative"
    assert title_of("standard@7") == "standard (separate STN), scan statistics 7"
    assert split_row("standard@off") == ("standard", "off")


def test_miccai2021_is_the_paper() -> None:
    settings = resolve_settings(preset="miccai2021")
    assert settings.cases.size == (192, 192)
    assert settings.cases.spacing == 1.36719
    assert (settings.training.epochs, settings.training.batch_size) == (600, 20)
    assert (settings.training.optimizer, settings.training.learning_rate) == ("adam", 1e-4)
    assert (settings.latent.p, settings.latent.annealing) == (0.5, 0.5)
    assert settings.losses.temperature == 2
    # equation 3 of the paper weighs the reconstruction by a half
    weights = [
        getattr(settings.losses, name) for name in ("segmentation", "reconstruction", "refined", "shape")
    ]
    assert weights == [1, 0.5, 1, 1]


def test_lsm2022_has_no_stn() -> None:
    settings = resolve_settings(preset="lsm2022")
    assert not settings.losses.stn
    assert (settings.latent.p, settings.training.optimizer, settings.training.epochs) == (0.33, "adamw", 1500)
    assert settings.training.weight_decay == 0.01  # with 0 AdamW is Adam
    assert settings.latent.norm == "frozen"  # the image decoder too
    assert (settings.augmentation.shift, settings.augmentation.random_crop) == (0, True)
    row = resolve_settings(method="cooperative-lsm2022")
    assert (row.training.weight_decay, row.latent.norm) == (0.01, "frozen")
    ours = resolve_settings(method="cooperative")
    assert row.augmentation == ours.augmentation  # the crop belongs to the preset


def test_methods_differ_from_cooperative_in_what_they_name() -> None:
    base = resolve_settings(method="cooperative")
    for method, entry in METHODS.items():
        changed = resolve_settings(method=method)
        for section in ("cases", "network", "latent", "losses", "augmentation", "training", "prediction"):
            same = getattr(changed, section) == getattr(base, section)
            assert same == (section not in entry.changes), (method, section)


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_can_be_made_and_has_settings(name: str) -> None:
    (rival,) = make_rivals(RivalSettings(use=(name,)))
    assert rival.name == name.replace("-", "_")
    assert rival.settings == RivalSettings().of(name)


def test_rows_of_the_table_are_in_its_order() -> None:
    assert " ".join(ROWS) == (
        "standard cooperative-no-latent rand-mwm randconv randconv-successor adv-noise adv-bias post-dae rsc "
        "mixstyle dsu maxstyle bigaug gin gin-ipa afa-mixup slaug heavy cooperative-miccai2021 "
        "cooperative-lsm2022 cooperative monai-unet unet cooperative-unet coopseg-published coopseg"
    )
    assert " ".join(MAIN_ROWS) == (
        "standard cooperative-no-latent randconv maxstyle bigaug cooperative-miccai2021 cooperative-lsm2022 "
        "cooperative monai-unet unet coopseg"
    )
    assert set(METHODS) - set(ROWS) == set(ABLATIONS)


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
        register(name, object)


def test_names_cost_no_torch() -> None:
    code = "import sys; import coopseg.config.resolve; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
