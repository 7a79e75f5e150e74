"""The loop on made-up discs: what it keeps, when it validates, that it learns, stops and holds nothing."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from coopseg.config.rivals import RivalSettings, SlaugSettings
from coopseg.config.settings import NetworkSettings, Settings, TrainingSettings
from coopseg.errors import CoopsegError, Stopped
from coopseg.inference.model import BEST, load_model
from coopseg.inference.predictor import HEADS, Predictor
from coopseg.training import loop as module
from coopseg.training.batches import SliceStore
from coopseg.training.checkpoint import CHECKPOINT, load_checkpoint
from coopseg.training.inputs import ValidationSet
from coopseg.training.log import Values
from coopseg.training.loop import Loop, total_steps
from coopseg.training.processes import make_fabric

NAMES = ("background", "LV", "MYO")


def discs(slices: int = 12, side: int = 32) -> SliceStore:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centre = side * (0.35 + 0.3 * torch.rand(slices, 2, 1, 1, generator=generator))
    radius = ((rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2).sqrt()
    label = (radius < 0.3 * side).long() + (radius < 0.15 * side).long()
    image = (label / 2 + 0.1 * torch.rand(label.shape, generator=generator)).clamp(0, 1)
    return SliceStore.of_crops(image.unsqueeze(1), label, tuple(f"p{index}" for index in range(slices)))


class Log:
    """A tracker in memory."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def log(self, kind: str, step: int, values: Values) -> None:
        self.lines.append((kind, step, values))

    def close(self) -> None:
        pass


class Judge:
    """Stands in for `validate`: gives the scores it was told, (FTN, FTN+STN), and keeps what it was shown."""

    def __init__(self, *scores: tuple[float, ...]) -> None:
        self.scores = list(scores)
        self.shown: list[Any] = []

    def __call__(self, predictor: Predictor, validation: ValidationSet) -> dict[str, dict[str, float]]:
        networks: Any = predictor.networks
        assert not networks.training
        state = {name: value.clone() for name, value in networks.state_dict().items()}
        self.shown.append((state, predict(networks)))
        scores = self.scores[len(self.shown) - 1] if self.scores else (0.5, 0.5)
        return {head: {"mean": score} for head, score in zip(HEADS, scores, strict=False)}


MakeLoop = Callable[..., tuple[Any, Judge]]


@torch.inference_mode()
def predict(networks: Any) -> Any:
    return networks(discs(2).images)


@pytest.fixture
def make_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeLoop:
    def make(
        *scores: tuple[float, ...],
        store: SliceStore | None = None,
        rivals: RivalSettings | None = None,
        **training: Any,
    ) -> tuple[Loop, Judge]:
        judge = Judge(*scores)
        monkeypatch.setattr(module, "validate", judge)
        training = {"batch_size": 4, "steps": 6, "validations": 3, **training}
        settings = Settings(
            network=NetworkSettings(width=2),
            training=TrainingSettings(**training),
            rivals=rivals or RivalSettings(),
        )
        made = Loop(
            settings=settings,
            store=store or discs(),
            validation=ValidationSet((), (), NAMES),
            out=tmp_path,
            fabric=make_fabric("cpu", "32"),
            trackers=[Log()],
        )
        return made, judge

    return make


def weights_of(path: Path) -> dict[str, Tensor]:
    networks: Any = load_model(path).networks
    return dict(networks.state_dict())


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_means_its_last_weights_and_keeps_the_best_of_each_head_beside_them(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    """The FTN is best at step 4, the STN at 2, where it stays: an equal score later is no better one."""
    loop, judge = make_loop((0.3, 0.9), (0.8, 0.2), (0.5, 0.9))
    history = loop.run()
    for path, number in ((tmp_path, 2), (tmp_path / BEST["FTN"], 1), (tmp_path / BEST["FTN+STN"], 0)):
        model: Any = load_model(path)
        state, predictions = judge.shown[number]
        assert equal(model.networks.state_dict(), state)
        assert equal(predict(model.networks), predictions)
    assert not equal(judge.shown[1][0], judge.shown[2][0])
    assert history.best == {"FTN": {"step": 4, "score": 0.8}, "FTN+STN": {"step": 2, "score": 0.9}}
    assert [entry["step"] for entry in history.validations] == [2, 4, 6]


def test_a_head_that_is_not_there_has_no_best(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop, _ = make_loop((0.0,), (0.0,), (0.0,))
    assert loop.run().best == {"FTN": {"step": 2, "score": 0.0}}
    assert not (tmp_path / BEST["FTN+STN"]).exists()


def test_what_was_best_before_a_stop_is_so_after_it(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop, judge = make_loop((0.3, 0.9), (0.8, 0.2))
    loop.progress = lambda progress: setattr(loop.signals, "received", 15 if progress.step == 4 else None)
    with pytest.raises(Stopped, match="after step 4 of 6"):
        loop.run()
    again, later = make_loop((0.5, 0.3))
    again.load_state_dict(load_checkpoint(tmp_path / CHECKPOINT))
    history = again.run()
    assert history.best == {"FTN": {"step": 4, "score": 0.8}, "FTN+STN": {"step": 2, "score": 0.9}}
    shown = [judge.shown[1], judge.shown[0], later.shown[0]]
    for path, (state, _) in zip((BEST["FTN"], BEST["FTN+STN"], ""), shown, strict=True):
        assert equal(weights_of(tmp_path / path), state)


def test_validation_changes_nothing_in_training(make_loop: MakeLoop) -> None:
    often, _ = make_loop(validations=6, steps=4)
    often.run()
    once, _ = make_loop(validations=1, steps=4)
    once.run()
    assert equal(often.networks.state_dict(), once.networks.state_dict())
    assert often.networks.training


def test_cooperation_begins_with_a_window_of_the_log(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_EVERY", 4)
    loop, _ = make_loop(steps=12, validations=1, cooperate_after=0.4)
    loop.run()
    lines = {step: values for kind, step, values in loop.trackers[0].lines if kind == "train"}
    assert {step: "hard_shape" in values for step, values in lines.items()} == {4: False, 8: True, 12: True}
    never, _ = make_loop(steps=4, validations=1, cooperate_after=1.0)
    never.run()
    assert "hard_shape" not in never.trackers[0].lines[0][2]


def test_a_rival_begins_with_a_window_of_the_log_in_a_resumed_training_too(
    make_loop: MakeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rival that begins after 0.4 of 9 steps does so at step 5; the run is stopped before or after it."""
    monkeypatch.setattr(module, "READ_EVERY", 4)
    rivals = RivalSettings(use=("slaug",), slaug=SlaugSettings(warmup=0.4))
    whole, _ = make_loop(steps=9, rivals=rivals)
    whole.run()
    lines = {step: values for kind, step, values in whole.trackers[0].lines if kind == "train"}
    assert {step: "slaug_fused_dice" in values for step, values in lines.items()} == {
        4: False,
        8: True,
        9: True,
    }

    for stop in (3, 6):
        stopped, _ = make_loop(steps=9, rivals=rivals)
        signals = stopped.signals
        stopped.progress = lambda progress, at=stop, to=signals: setattr(to, "received", progress.step == at)
        with pytest.raises(Stopped, match=f"stopped after step {stop} of 9"):
            stopped.run()
        resumed, _ = make_loop(steps=9, rivals=rivals)
        resumed.load_state_dict(load_checkpoint(tmp_path / CHECKPOINT))
        resumed.run()
        assert equal(resumed.networks.state_dict(), whole.networks.state_dict())
        logged = [line for loop in (stopped, resumed) for line in loop.trackers[0].lines]
        assert logged == whole.trackers[0].lines


def test_averaged_weights_are_validated_and_saved_and_training_goes_on_from_its_own(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    loop, judge = make_loop(ema=0.9, steps=3)
    loop.run()
    plain, _ = make_loop(steps=3)
    assert equal(judge.shown[-1][0], loop.average.values)
    assert equal(weights_of(tmp_path / "last.safetensors"), loop.average.values)
    plain.run()
    assert equal(loop.networks.state_dict(), plain.networks.state_dict())
    assert not equal(loop.networks.state_dict(), loop.average.values)


@pytest.mark.parametrize(("steps", "times"), [(7, 3), (39, 20), (3, 20), (10, 10), (600, 7)])
def test_as_many_validations_as_asked_for_the_last_at_the_end(
    make_loop: MakeLoop, steps: int, times: int
) -> None:
    loop, _ = make_loop(steps=steps, validations=times)
    after = [number for number in range(1, steps + 1) if loop.validates(number)]
    assert len(after) == min(times, steps)
    assert after[-1] == steps
    gaps = {b - a for a, b in zip([0, *after], after, strict=False)}
    assert max(gaps) - min(gaps) <= 1


def test_it_learns_the_discs(make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_EVERY", 12)
    loop, _ = make_loop(steps=24, validations=1, learning_rate=1e-2)
    loop.run()
    first, last = [values for kind, _, values in loop.trackers[0].lines if kind == "train"]
    for term in ("segmentation", "reconstruction", "refined", "shape", "hard_segmentation", "total"):
        assert last[term] < 0.8 * first[term], term


def test_the_logged_rate_is_that_of_the_logged_step(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_EVERY", 2)
    loop, _ = make_loop(steps=5, validations=1, schedule="one_cycle", learning_rate=1e-2, warmup=0.5)
    loop.run()
    rates = {
        step: values["learning_rate"] for kind, step, values in loop.trackers[0].lines if kind == "train"
    }
    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        reference, 1e-2, total_steps=5, pct_start=0.5, cycle_momentum=False
    )
    expected = {}
    for step in range(1, 6):
        expected[step] = reference.param_groups[0]["lr"]
        reference.step()
        if step < 5:
            cycle.step()
    assert rates == pytest.approx({step: expected[step] for step in (2, 4, 5)}, abs=0)


def test_an_epoch_is_shared_by_the_processes() -> None:
    settings = Settings(training=TrainingSettings(batch_size=4, epochs=3))
    assert [total_steps(settings, 12, processes) for processes in (1, 2, 6, 100)] == [18, 9, 3, 3]
    assert total_steps(Settings(training=TrainingSettings(steps=5)), 12, 2) == 5


def test_a_slice_that_is_not_finite_is_named_and_no_weights_are_kept(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    store = discs()
    image = store.images.clone()
    image[3] = torch.nan
    loop, judge = make_loop(store=replace(store, images=image), steps=12, validations=12)
    with pytest.raises(CoopsegError, match=r"not finite at step (\d+); its slices are in .*nonfinite\.json"):
        loop.run()
    record = json.loads((tmp_path / "nonfinite.json").read_text())
    assert "p3" in record["slices"]
    assert len(judge.shown) == record["step"] - 1
    if judge.shown:
        assert equal(weights_of(tmp_path / "last.safetensors"), judge.shown[-1][0])


def test_weights_that_are_not_finite_are_never_validated(
    make_loop: MakeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, judge = make_loop(steps=1)
    step = loop.optimiser.step

    def broken() -> None:
        step()
        next(loop.networks.parameters()).data[:] = torch.inf

    monkeypatch.setattr(loop.optimiser, "step", broken)
    with pytest.raises(CoopsegError, match="not finite at step 1"):
        loop.run()
    assert not judge.shown
    assert [path.name for path in tmp_path.iterdir()] == ["nonfinite.json"]


def held() -> int:
    """Bytes of every storage that a tensor still refers to."""
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def test_a_step_leaves_nothing_behind_but_its_losses(make_loop: MakeLoop) -> None:
    loop, _ = make_loop()
    for _ in range(2):
        loop.train_step()  # Adam has its moments after the first
    gc.collect()
    gc.disable()  # so that a reference cycle would show
    try:
        before = held()
        for _ in range(5):
            loop.train_step()
        after = held()
    finally:
        gc.enable()
    assert after - before < 5 * 256
    assert gc.collect() < 1000
