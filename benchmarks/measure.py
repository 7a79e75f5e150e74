"""Measures once in a process of its own, so that `ru_maxrss` is that measurement's and nobody else's.

    python benchmarks/measure.py bare_import
    python benchmarks/measure.py step '{"preset": "miccai2021", "method": "cooperative", "precision": "32"}'

Each module in measures/ has a function `measure(**arguments)` that returns a dictionary. Prints JSON.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys


def main(kind: str, arguments: str = "{}") -> None:
    """Measures, and prints what was found with the most memory that this process held."""
    found = importlib.import_module(f"measures.{kind}").measure(**json.loads(arguments))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({**found, "peak_gb": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
