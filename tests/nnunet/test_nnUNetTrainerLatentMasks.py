"""nnU-Net's own commands, as the page has them, on a tiny made-up data set."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "nnunet.md"
SHORT = """
class {name}(nnUNetTrainerSpatialMasks):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 2, 1
"""

STAND_IN = """
import torch

def __getattr__(name):
    return type(name, (torch.nn.Module,), {}) if not name.startswith("__") else None
"""


def stand_in_for_timm(folder: Path) -> None:
    """nnU-Net's search for a trainer imports all of its own, some of which import timm, and that torchvision.

    torchvision has no build for every torch; the networks here need neither.
    """
    for module in ("timm/layers", "timm/models/eva"):
        (folder / module).mkdir(parents=True)
        (folder / module / "__init__.py").write_text(STAND_IN)


def write_data(folder: Path) -> None:
    """Ten scans of a bright ball in noise."""
    generator = np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(10):
        rows, columns = np.mgrid[:40, :40]
        ball = np.hypot(rows - generator.uniform(12, 28), columns - generator.uniform(12, 28)) < 8
        label = np.repeat(ball[..., None], 4, 2).astype(np.uint8)
        image = (label * 3 + generator.normal(size=label.shape)).astype(np.float32)
        for array, name in ((image, f"imagesTr/ball{case}_0000"), (label, f"labelsTr/ball{case}")):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 8, 1])), folder / f"{name}.nii.gz")
    facts = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "LV": 1}, "numTraining": 10}
    (folder / "dataset.json").write_text(json.dumps(facts | {"file_ending": ".nii.gz"}))


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    write_data(tmp_path / "raw" / "Dataset001_Heart")
    commands, example = re.findall(r"```(?:bash|python)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    name, mine = "nnUNetTrainerShort", tmp_path / "mine"
    mine.mkdir()
    (mine / f"{name}.py").write_text(example + SHORT.format(name=name))
    lines = commands.replace("-tr nnUNetTrainerLatentMasks", f"-tr {name} -device cpu").splitlines()
    script = "\n".join(
        ["set -e", *lines[:2], f"export nnUNet_extTrainer=$nnUNet_extTrainer:{mine}", *lines[2:]]
    )
    threads = {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1"}
    stand_in_for_timm(tmp_path / "python")
    path = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{tmp_path / 'python'}:{os.environ.get('PYTHONPATH', '')}",
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**os.environ, **threads, **path},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "latent masks on decoder, weight 0.5, from epoch 1; the network is not compiled" in done.stdout
    assert len(list((tmp_path / "predictions").glob("ball*.nii.gz"))) == 10
