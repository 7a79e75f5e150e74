"""`make bench` measures every figure of docs/performance.md, each in a fresh process, in at most ten minutes.

Prints a table and writes every sample with machine, commit and command to results/bench.json. Nothing else
may run meanwhile; the load average before the first measurement is written down with the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import describe_machine
from rows import ROWS, Row

HERE = Path(__file__).parent
LINE = "{:38} {:>10} {:>9} {:>22} {:>9} {:>9}  {}"
HEAD = LINE.format("what", "median", "peak GB", "goal", "limit", "of limit", "beside it")


def measure(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns what benchmarks/measure.py prints, or {"error": its last line}."""
    command = [sys.executable, str(HERE / "measure.py"), kind, json.dumps(arguments)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        return {"error": (answer.stderr.strip().splitlines() or ["no word of why"])[-1]}
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def line(row: Row, found: dict[str, Any], results: dict[str, Any]) -> str:
    """Returns one line of the table; the distance to the limit is limit over median."""
    if "error" in found:
        return LINE.format(row.name, "error", "", row.goal, "", "", found["error"])
    value = row.value(found)
    limit = row.limit(results) if row.limit else None
    return LINE.format(
        row.name,
        f"{value:.2f} {row.unit}",
        f"{found['peak_gb']:.2f}",
        row.goal,
        f"{limit:.2f} {row.unit}" if limit else "-",
        f"{(limit / value if row.less_is_better else value / limit):.0%}" if limit else "-",
        row.beside(found, results),
    )


def main(out: Path, chosen: Callable[[Row], bool] = lambda row: True) -> None:
    """Measures all rows in order: limits come first, since the others are held against them."""
    start = time.perf_counter()
    results: dict[str, Any] = {"machine": describe_machine("make bench"), "rows": {}}
    print(HEAD, flush=True)
    for row in filter(chosen, ROWS):
        if row.needs_bf16 and not results["machine"]["bf16_hardware"]:
            # Emulated bf16 takes minutes a step and says nothing about a processor that has it.
            print(f"{row.name:38} left out: this processor has no bf16", flush=True)
            continue
        found = measure(row.kind, row.arguments)
        results["rows"][row.name] = {"arguments": row.arguments, **found}
        print(line(row, found, results["rows"]), flush=True)
    results["seconds"] = time.perf_counter() - start
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {out} after {results['seconds']:.0f} s")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    names = sys.argv[2:]
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "results" / "bench.json"
    main(target, lambda row: not names or row.kind in names)
