"""A training small enough for a test: the phantom at 32 × 32, networks of width 2."""

from __future__ import annotations

import pytest

TINY = {
    "network.width": 2,
    "cases.size": (32, 32),
    "cases.spacing": 6.0,
    "training.batch_size": 4,
    "training.steps": 6,
    "training.validations": 3,
}


@pytest.fixture
def tiny_train(phantom, tmp_path):
    """train(name, **arguments) on the phantom; returns the run folder."""
    from coopseg.training.run import train

    def run(name, settings=(), **arguments):
        wanted = {**TINY, **dict(settings)}
        return train(
            phantom["acdc"], tmp_path / name, preset="cpu", settings=wanted, device="cpu", **arguments
        )

    return run
