"""The question that a benchmark asks, and its answer in words, which say no more than the scores bear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coopseg.benchmark.collected import STEPS, TIME
from coopseg.benchmark.view import is_clear, signed

OURS = "cooperative"
NAMED = 4  # methods that are named one by one
FAR = (
    "out",
    "other",
    "corrupted",
)  # of a line of `change`, which says most about scans unlike the training's

Line = dict[str, Any]


def ask(results: dict[str, Any]) -> str:
    """The question, one sentence."""
    others = len(results["rows"]) - any(row["name"] == results["baseline"] for row in results["rows"])
    which = f"Which of {others} methods holds" if others > 1 else "Does it hold"
    return f"{which} better than {results['baseline']} training on scans unlike its own, and at what cost?"


def answer(results: dict[str, Any]) -> dict[str, Any]:
    """A verdict and the sentences it rests on."""
    lines = speaking(results, STEPS)
    if not any(cell["state"] == "value" for cell in results["cells"]):
        return {"verdict": "No job has finished yet.", "sentences": []}
    if not lines:
        verdict = (
            f"No method has been evaluated on a draw on which {results['baseline']} was: nothing to compare."
        )
        return {"verdict": verdict, "sentences": [_progress(results)]}
    baseline = results["baseline"]
    sentences = [_progress(results), _ours(lines), _worse(lines, baseline), _price(lines), _time(results)]
    sentences += [_cost(results), _caution(results)]
    return {"verdict": _verdict(results, lines), "sentences": [text for text in sentences if text]}


def speaking(results: dict[str, Any], budget: str) -> list[Line]:
    """Of each row the line of `change` by its last head: "row", "head", "own" and "far", the widest there is.

    Sorted by the difference of "far", the highest first.
    """
    last: dict[str, Line] = {}
    for line in results["change"].get(budget, []):
        far = next((line[key] for key in FAR if line[key]), None)
        if far:
            last[line["row"]] = {"row": line["row"], "head": line["head"], "own": line["own"], "far": far}
    return sorted(last.values(), key=lambda line: -line["far"]["mean"])


def _verdict(results: dict[str, Any], lines: Sequence[Line]) -> str:
    higher = [line for line in lines if is_clear(line["far"]) and line["far"]["mean"] > 0]
    where = _where(lines[0]["far"]["column"])
    if not higher:
        of = f"none of {len(lines)} methods is" if len(lines) > 1 else f"{lines[0]['row']} is not"
        return f"{where}, {of} above {results['baseline']} training by more than chance between patients."
    count = f"{len(higher)} of {len(lines)} methods are" if len(lines) > 1 else f"{higher[0]['row']} is"
    found = f"{where}, {count} above {results['baseline']} training by more than chance between patients"
    return f"{found}: {_named(higher, 'far')}." if len(lines) > 1 else f"{found}: {_value(higher[0]['far'])}."


def _where(column: str) -> str:
    text = column.removeprefix("average ")
    return text[0].upper() + text[1:] if text != column else f"On {column}"


def _named(lines: Sequence[Line], key: str) -> str:
    said = [f"{line['row']} ({line['head']}) {_value(line[key])}" for line in lines[:NAMED]]
    return "; ".join(said) + (f"; and {len(lines) - NAMED} more" if len(lines) > NAMED else "")


def _value(entry: dict[str, Any]) -> str:
    if not entry["interval"]:
        return f"{signed(entry['mean'])}"
    low, high = entry["interval"]
    return f"{signed(entry['mean'])} [{signed(low)}, {signed(high)}]"


def _progress(results: dict[str, Any]) -> str:
    jobs = results["jobs"]
    left = jobs["all"] - jobs["finished"]
    if not left:
        return ""
    done = f"{jobs['finished']} of {jobs['all']} jobs have finished ({len(jobs['failed'])} failed)"
    return f"{done}: this rests on them."


def _ours(lines: Sequence[Line]) -> str:
    place = next((place for place, line in enumerate(lines, start=1) if line["row"] == OURS), 0)
    if not place or len(lines) < 2:
        return ""
    own = lines[place - 1]
    clean = f" and {_value(own['own'])} on clean own-site scans" if own["own"] else ""
    return f"{OURS} ({own['head']}) comes {place} of {len(lines)}, with {_value(own['far'])} there{clean}."


def _worse(lines: Sequence[Line], baseline: str) -> str:
    worse = [line for line in reversed(lines) if is_clear(line["far"]) and line["far"]["mean"] < 0]
    return f"Below {baseline} there: {_named(worse, 'far')}." if worse else ""


def _price(lines: Sequence[Line]) -> str:
    known = sorted((line for line in lines if line["own"]), key=lambda line: line["own"]["mean"])
    lost = [line for line in known if is_clear(line["own"]) and line["own"]["mean"] < 0]
    if lost:
        return f"On clean own-site scans {len(lost)} of {len(known)} lose: {_named(lost, 'own')}."
    return "On clean own-site scans none loses by more than chance between patients." if known else ""


def _time(results: dict[str, Any]) -> str:
    lines = speaking(results, TIME)
    return f"At equal wall-clock time: {_named(lines, 'far')}." if lines else ""


def _cost(results: dict[str, Any]) -> str:
    known = [
        line for line in results["cost"] if line["times_standard"] and line["row"] != results["baseline"]
    ]
    if not known:
        return ""
    ordered = sorted(known, key=lambda line: line["times_standard"])
    first, last = ordered[0], ordered[-1]
    if first is last:
        return f"A step of {first['row']} takes {first['times_standard']:.1f} times as long."
    return (
        f"A training step takes {first['times_standard']:.1f} ({first['row']}) to "
        f"{last['times_standard']:.1f} ({last['row']}) times as long as that of {results['baseline']}."
    )


def _caution(results: dict[str, Any]) -> str:
    once = [row for row in results["rows"] if len(row["draws"]) == 1 and len(row["seeds"]) == 1]
    trained = (
        f" Rows with one training ({len(once)}) say nothing of chance between trainings." if once else ""
    )
    return f"Brackets hold 95 % intervals over patients, each comparison by itself.{trained}"
