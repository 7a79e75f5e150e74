"""What is logged: means over steps, the first step that is not finite, and lines on disk at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.training.log import JsonLines, Meter, Values, make_trackers
from coopseg.training.step import StepResult

VALUES: Values = {"total": 1.5, "FTN": {"mean": 0.25, "LV": 0.5}}


def test_lines_are_on_disk_at_once(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path / "log.jsonl")
    tracker.log("train", 3, VALUES)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()  # not closed: as after a kill
    tracker.close()
    assert json.loads(line) == {"kind": "train", "step": 3, **VALUES}


def test_tensorboard_holds_the_same_numbers(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for tracker in make_trackers(tmp_path):
        tracker.log("validation", 7, VALUES)
        tracker.close()
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (scalar,) = events.Scalars("validation/FTN/LV")
    assert (scalar.step, scalar.value) == (7, 0.5)


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    first = JsonLines(tmp_path / "log.jsonl")
    for step in (0, 10, 20, 30):
        first.log("train", step, {"total": step / 10})
    first.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "tra')  # killed within a line
    again = JsonLines(tmp_path / "log.jsonl", after=20)
    again.log("train", 30, {"total": 7.0})
    again.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(0, 0.0), (10, 1.0), (20, 2.0), (30, 7.0)]


def result(total: float, rises: dict[str, Tensor] | None = None) -> StepResult:
    losses = {"segmentation": torch.tensor(float(total) / 2), "total": torch.tensor(float(total))}
    return StepResult(losses, rises or {})


@pytest.mark.parametrize(
    "damage", [b"\x00" * 300 + b"\n", b"[]\n", b'{"step": "x"}\n', b"\xff\n", b"[" * 100_000 + b"\n", b"{}\n"]
)
def test_a_damaged_log_is_set_aside_and_its_good_lines_go_on(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "log.jsonl"
    good = b'{"kind": "train", "step": 20}\n'
    (tmp_path / "log.damaged-1.jsonl").write_bytes(b"of an earlier power cut")
    path.write_bytes(good + damage + good.replace(b"20", b"40") + b"\x00" * 9)
    lines = JsonLines(path, after=20)
    lines.close()
    assert path.read_bytes() == good
    assert (tmp_path / "log.damaged-2.jsonl").read_bytes().startswith(good + damage)
    assert lines.note == f"{path}: 1 damaged lines are left out; the whole is kept as log.damaged-2.jsonl"


def test_means_over_steps_and_a_fresh_start() -> None:
    meter = Meter()
    meter.add(result(1), ("a",))
    meter.add(result(3), ("b",))
    assert meter.read() == {"segmentation": 1.0, "total": 2.0}
    meter.add(result(8), ("c",))
    assert meter.read()["total"] == 8


def test_a_rise_is_the_ratio_of_sums_and_absent_schemes_are_left_out() -> None:
    sums = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [2.0, 5.0, 1.0]])
    meter = Meter()
    meter.add(result(1, {"image": sums}), ("a",))
    meter.add(result(1, {"image": sums}), ("a",))
    assert meter.read()["rise"] == pytest.approx({"image/dropout": 2.0, "image/spatial": 2.5})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_batch_that_is_not_finite_is_named(bad: float) -> None:
    meter = Meter()
    for total, name in ((1, "good"), (bad, "broke"), (bad, "after")):
        meter.add(result(total), (name,))
    assert meter.bad_batch() == (1, ("broke",))


def test_finite_losses_name_no_batch() -> None:
    meter = Meter()
    meter.add(result(1), ("a",))
    assert meter.bad_batch() is None


def test_a_loss_keeps_no_image_alive() -> None:
    image = torch.rand(2, 1, 16, 16)
    loss = F.mse_loss(image, image)  # a scalar in storage of the image's size
    meter = Meter()
    meter.add(StepResult({"total": loss}, {}, image, image), ("a",))
    kept = [thing for value in vars(meter).values() for thing in value if isinstance(thing, torch.Tensor)]
    assert [tensor.untyped_storage().nbytes() for tensor in kept] == [4]


def test_a_saved_meter_reads_as_the_one_that_went_on() -> None:
    sums = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [2.0, 5.0, 1.0]])
    meter, resumed = Meter(), Meter()
    meter.add(result(1, {"image": sums}), ("a",))
    resumed.load_state_dict(meter.state_dict(), torch.device("cpu"))
    for one in (meter, resumed):
        one.add(result(4, {"image": sums}), ("b",))
    assert resumed.batches == meter.batches == [("a",), ("b",)]
    assert resumed.read() == meter.read()
