"""The service on a port of its own, with a worker that segments nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from asking import Asking, Toy

from coopseg.config.resolve import resolve_settings
from coopseg.inference.model import LAST, save_model
from coopseg.networks.cooperative import Networks

TINY = {"network.width": 2, "cases.size": (32, 32), "cases.spacing": 4.0}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights."""
    folder = tmp_path_factory.mktemp("model")
    settings = resolve_settings(overrides=TINY)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Networks(classes=4, **dict(settings.network)).state_dict()
    save_model(folder / LAST, state, settings=settings, names=("background", "RV", "MYO", "LV"))
    return folder


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def service(toy: Toy, tmp_path: Path) -> Iterator[Asking]:
    """A service of 1 MB that keeps results for a minute."""
    pytest.importorskip("python_multipart")
    pytest.importorskip("starlette")
    uvicorn = pytest.importorskip("uvicorn")
    from coopseg.serve.app import make_app
    from coopseg.serve.jobs import Jobs
    from coopseg.serve.run import configure, listen
    from coopseg.serve.worker import Ready

    folder = tmp_path / "jobs"
    folder.mkdir()
    jobs = Jobs(folder, toy, keep=60)
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        app = make_app(jobs, Ready(("RV", "LV"), "cpu"), most_bytes=2**20, host="127.0.0.1", port=port)
        server = uvicorn.Server(configure(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Asking(port)
        finally:
            server.should_exit = True
            thread.join()
            jobs.close()
    assert list(folder.iterdir()) == []
