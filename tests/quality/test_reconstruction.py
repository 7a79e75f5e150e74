"""The error of a reconstruction against torch's mean squared error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coopseg.quality.reconstruction import reconstruction_error


def test_equals_torch() -> None:
    image, other = np.random.default_rng(0).random((2, 3, 1, 8, 9), np.float32)
    expected = torch.nn.functional.mse_loss(torch.from_numpy(image), torch.from_numpy(other)).sqrt()
    assert reconstruction_error(image, other) == pytest.approx(float(expected), rel=1e-5)
    assert reconstruction_error(image, image) == 0
