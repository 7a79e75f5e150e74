"""A whole Post-DAE on the phantom: what it writes, what takes it, and how it fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from coopseg.config.resolve import resolve_settings
from coopseg.errors import CoopsegError
from coopseg.inference.model import load_model
from coopseg.inference.predictor import Predictor
from coopseg.networks.cooperative import Networks
from coopseg.rivals.post_dae import ShapeTraining, train_post_dae
from coopseg.scans.layouts import open_dataset
from coopseg.scans.load import load_scan
from coopseg.scans.types import Scan
from coopseg.training.batches import SliceStore
from coopseg.training.loop import Progress
from coopseg.training.losses import one_hot
from coopseg.training.run import train

TINY = {
    "network.width": 2, "cases.size": (32, 32), "cases.spacing": 6.0, "training.batch_size": 4,
    "training.steps": 4, "training.validations": 1,
}  # fmt: skip


Runs = tuple[Path, Path, list[Progress]]


@pytest.fixture(scope="module")
def runs(phantom: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A standard training of a few steps, the folder of its Post-DAE, and the progress that was reported."""
    folder = tmp_path_factory.mktemp("post-dae")
    seen: list[Progress] = []
    standard = train(
        phantom["acdc"],
        folder / "standard",
        preset="cpu",
        method="standard",
        settings=TINY,
        seed=1,
        device="cpu",
    )
    out = train_post_dae(standard, folder / "post-dae", progress=seen.append)
    return standard, out, seen


def scan_of(phantom: dict[str, Path], patient: str) -> Scan:
    dataset = open_dataset(phantom["acdc"])
    return load_scan(next(item for item in dataset.items if item.patient == patient))


def test_the_ftn_is_that_of_the_run_and_the_stn_is_another(runs: Runs) -> None:
    standard, out, _ = runs
    before, after = (load_model(run).networks.state_dict() for run in (standard, out))  # type: ignore[union-attr]
    for name, value in before.items():
        shape = name.startswith("shape_") and name.endswith("weight")
        assert torch.equal(value, after[name]) or name.startswith("shape_")
        assert not (shape and torch.equal(value, after[name]))


def test_the_autoencoder_is_given_hard_label_maps(runs: Runs, phantom: dict[str, Path]) -> None:
    """FTN+STN is C of the arg-max of the FTN, whose own result is the standard run's."""
    standard, out, _ = runs
    scan = scan_of(phantom, "patientP003")
    model: Any = load_model(out)
    model.networks.segmentation_decoder.out.weight.mul_(1e5)  # as far apart as those of a trained FTN
    predictor = Predictor(model.networks, model.settings)
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    heads = predictor._part(images, 0, torch.Generator()).heads
    hard = one_hot(heads["FTN"].argmax(1), 4, images)
    with torch.no_grad():
        refined = torch.softmax(model.networks.refine(hard), 1)
    torch.testing.assert_close(heads["FTN+STN"], refined, rtol=1e-3, atol=1e-3)
    found, before = (Predictor.from_model(load_model(run)).frames(scan) for run in (out, standard))
    assert np.array_equal(found["FTN"], before["FTN"])


def test_its_record_is_that_of_a_run(runs: Runs) -> None:
    standard, out, seen = runs
    before, record = (json.loads((run / "run.json").read_text()) for run in (standard, out))
    assert set(record) == {*before, "stands_on"}
    assert record["stands_on"] == load_model(standard).sha256
    same = ("data", "split", "slices")
    assert {key: record[key] for key in same} == {key: before[key] for key in same}
    settings = record["settings"]
    assert settings["method"] == "post-dae"
    assert settings["losses"].pop("temperature") == 0.01
    before["settings"]["losses"].pop("temperature")
    assert settings == {**before["settings"], "method": "post-dae"}
    assert record["steps"] == 50  # one validation at least
    assert record["best"] == {}
    (last,) = record["validations"]
    assert last["step"] == 50
    assert last["FTN"] == before["validations"][-1]["FTN"]
    assert sorted(path.name for path in out.glob("*.safetensors")) == ["last.safetensors"]
    assert 0 < record["seconds_per_step"] * 50 < record["seconds"]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["train", "validation"]
    assert [(p.kind, p.step, p.values) for p in seen] == [
        (line.pop("kind"), line.pop("step"), line) for line in lines
    ]


def test_evaluate_predict_and_report_take_it(
    runs: Runs, phantom: dict[str, Path], tmp_path: Path, coopseg: Callable[..., Any]
) -> None:
    _, out, _ = runs
    data = "--data", phantom["acdc"], "--split", out, "--device", "cpu"
    result = coopseg("evaluate", "--model", out, *data, "--out", tmp_path / "evaluation")
    assert result.exit_code == 0, result.stderr
    rows = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["rows"]
    assert {row["head"] for row in rows} == {"FTN", "FTN+STN"}
    scan = next(phantom["acdc"].glob("patientP003/*frame01.nii.gz"))
    result = coopseg("predict", "--model", out, scan, "--out", tmp_path / "labels", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    result = coopseg("report", out, "--evaluation", tmp_path / "evaluation", "--out", tmp_path / "report")
    assert result.exit_code == 0, result.stderr
    assert "post-dae" in result.stdout


def rings(count: int, seed: int) -> SliceStore:
    """Rings around discs at random places: images (count, 1, 32, 32) of nothing and their labels."""
    centre = 10 + 12 * torch.rand(count, 2, 1, 1, generator=torch.Generator().manual_seed(seed))
    y, x = torch.arange(32).view(1, -1, 1) - centre[:, 0], torch.arange(32).view(1, 1, -1) - centre[:, 1]
    distance = (y.square() + x.square()).sqrt()
    labels = 2 * (distance < 9).long() + (distance < 5).long()
    return SliceStore.of_crops(torch.rand(count, 1, 32, 32), labels, tuple(map(str, range(count))))


def make_training(most: int, width: int = 2, **damage: Any) -> ShapeTraining:
    settings = resolve_settings(
        preset="cpu",
        method="standard",
        overrides={**TINY, "network.width": width, "training.learning_rate": 1e-2},
    )
    post_dae = settings.rivals.post_dae.model_copy(update=damage)
    rivals = settings.rivals.model_copy(update={"post_dae": post_dae})
    torch.manual_seed(0)
    return ShapeTraining(
        Networks(classes=4, **dict(settings.network)),
        settings.model_copy(update={"rivals": rivals}),
        store=rings(12, 0),
        held_out=rings(8, 1),
        most=most,
        fabric=Fabric(accelerator="cpu"),
    )


def test_it_learns_to_restore_maps_it_has_not_seen_and_leaves_the_ftn_alone() -> None:
    training = make_training(most=90, width=4, validate_every=40)
    assert isinstance(training.networks, Networks)
    ftn = {name: value.clone() for name, value in training.networks.image_encoder.state_dict().items()}
    training.run()
    assert training.done == 80
    assert training.validate() == pytest.approx(training.best.loss)
    shares = torch.bincount(training.target.flatten()) / training.target.numel()
    assert training.best.loss < 0.7 * float(torch.special.entr(shares).sum())  # of who knows only these
    for name, value in training.networks.image_encoder.state_dict().items():
        assert torch.equal(value, ftn[name])


def test_it_ends_when_patience_does_with_the_weights_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    training = make_training(most=1000, validate_every=2, patience=3, lower_after=2, lower_by=0.5)
    losses, states = iter([3.0, 1.0, 2.0, 1.0, 1.5, 0.5]), []

    def validate() -> float:
        states.append({name: value.clone() for name, value in training.stn.state_dict().items()})
        return next(losses)

    rates = []
    training.progress = lambda progress: rates.append(progress.values["learning_rate"])
    monkeypatch.setattr(training, "validate", validate)
    training.run()
    assert (training.done, training.best.step, training.best.loss) == (10, 4, 1.0)
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2, 1e-2, 5e-3])
    assert all(torch.equal(value, states[1][name]) for name, value in training.stn.state_dict().items())


def test_a_loss_that_is_not_finite_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    training = make_training(most=4, validate_every=2)
    monkeypatch.setattr(training, "validate", lambda: float("nan"))
    with pytest.raises(CoopsegError, match=r"not finite at step 2; lower training\.learning_rate"):
        training.run()


def test_what_it_refuses(runs: Runs, phantom: dict[str, Path], tmp_path: Path) -> None:
    standard, out, _ = runs
    with pytest.raises(CoopsegError, match="not an empty folder"):
        train_post_dae(standard, out)
    with pytest.raises(CoopsegError, match="nothing: no such run"):
        train_post_dae(tmp_path / "nothing", tmp_path / "out")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(standard / "request.json", unfinished)
    with pytest.raises(CoopsegError, match=r"its training did not end; go on with `coopseg train --resume"):
        train_post_dae(unfinished, tmp_path / "out")
    moved = tmp_path / "data"
    shutil.copytree(phantom["acdc"], moved)
    patient = json.loads((standard / "run.json").read_text())["split"]["train"][0]
    label, other = sorted((moved / patient).glob("*_gt.nii.gz"))
    shutil.copy(label, other)
    with pytest.raises(CoopsegError, match="scans or labels of its patients have changed"):
        train_post_dae(standard, tmp_path / "out", data=moved)
    damaged = Path(shutil.copytree(standard, tmp_path / "damaged"))
    record = json.loads((damaged / "run.json").read_text())
    content: Any
    for content in ([], {**record, "steps": None}, {**record, "validations": []}):
        (damaged / "run.json").write_text(json.dumps(content))
        with pytest.raises(CoopsegError, match=rf"^{damaged / 'run.json'}: .*; train it anew$"):
            train_post_dae(damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()
