"""Means, rises and the batch that broke, on hand-made numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coopseg.training.meter import Meter
from coopseg.training.step import StepResult


def result(total: float, rises: dict[str, Tensor] | None = None) -> StepResult:
    losses = {"segmentation": torch.tensor(float(total) / 2), "total": torch.tensor(float(total))}
    return StepResult(losses, rises or {})


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
