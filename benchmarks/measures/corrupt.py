"""Times corrupted copies of a phantom, by one worker and by one a core, and TorchIO's share."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torchio
from measures.cores import EVERY, clocked, spent

from coopseg.evaluation.corrupt import corrupt_dataset
from coopseg.phantom.write import write_phantom
from coopseg.scans.layouts import open_dataset


def measure(
    *, data: str | None = None, patients: int = 6, copies: int = 2, repeats: int = 1
) -> dict[str, Any]:
    """Returns the times of one worker and of all, and TorchIO's share of the CPU seconds of one.

    data: folder of a data set; a phantom where there is none. The seconds of all workers include their start.
    """
    with TemporaryDirectory() as folder:
        source = data or write_phantom(Path(folder) / "phantom", patients=patients, cross_patients=0)["acdc"]
        dataset = open_dataset(source)
        volumes = len(dataset.items) * copies * 4

        def run(name: str, workers: int) -> dict[str, float]:
            out = Path(folder) / name
            how: dict[str, Any] = {"copies": copies, "grid": "published", "workers": workers}
            found = spent(lambda: corrupt_dataset(dataset, out, **how))
            return {**found, "volumes_per_s": volumes / found["wall_s"]}

        with clocked(torchio.Transform, "__call__") as inside:
            one = run("one", 1)
        every = sorted((run(f"every{index}", EVERY) for index in range(repeats)), key=lambda r: r["wall_s"])
    middle = every[len(every) // 2]
    return {
        "median_s": middle["wall_s"],
        "volumes": volumes,
        "cores": EVERY,
        "one_worker": {**one, "torchio_share": sum(inside) / one["cpu_s"]},
        "all_workers": middle,
    }
