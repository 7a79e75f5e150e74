"""The question that a benchmark asks, and its answer in words, which say no more than the scores bear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coopseg.benchmark.captions import nothing_compared
from coopseg.benchmark.collected import STEPS, TIME
from coopseg.benchmark.view import signed
from coopseg.config.methods import DEFAULT_METHOD, title_of

OURS = (DEFAULT_METHOD, "cooperative")  # placed among the others by name
NAMED = 4  # methods that are named one by one
FAR = (
    "out",
    "other",
    "corrupted",
)  # of a line of `change`, which says most about scans unlike the training's

Line = dict[str, Any]


def ask(results: dict[str, Any]) -> str:
    """The question, one sentence."""
    rows = {row["name"] for row in results["rows"]}
    baselines = [name for name in results["baselines"] if name in rows] or results["baselines"]
    others = len(rows - {baselines[0]})
    which = f"Which of {others} methods holds" if others > 1 else "Does it hold"
    names = " or ".join(map(title_of, baselines))
    return f"{which} better than {names} on scans unlike its own, and at what cost?"


def answer(results: dict[str, Any]) -> dict[str, Any]:
    """A verdict and the sentences it rests on: against the published baseline first, then the other."""
    if not any(cell["state"] == "value" for cell in results["cells"]):
        return {"verdict": "No job has finished yet.", "sentences": []}
    compared = {name: lines for name in results["baselines"] if (lines := speaking(results, STEPS, name))}
    if not compared:
        return {"verdict": nothing_compared(results), "sentences": [_progress(results)]}
    verdict, *sentences = [
        text
        for against, lines in compared.items()
        for text in (_verdict(lines, against), *_more(results, lines, against))
    ]
    sentences = [_progress(results), *sentences, _cost(results), _caution(results)]
    return {"verdict": verdict, "sentences": [text for text in sentences if text]}


def speaking(results: dict[str, Any], budget: str, against: str) -> list[Line]:
    """For each row its difference to a baseline by its last head: "row", "head", "own" and "far".

    own: on clean own-site scans. far: the broadest difference out of domain that there is. Sorted by "far",
    the highest first.
    """
    last: dict[str, Line] = {}
    for line in results["change"].get(budget, []):
        far = next((line[key] for key in FAR if line[key]), None)
        if far and line["against"] == against:
            last[line["row"]] = {"row": line["row"], "head": line["head"], "own": line["own"], "far": far}
    return sorted(last.values(), key=lambda line: -line["far"]["mean"])


def _more(results: dict[str, Any], lines: Sequence[Line], against: str) -> list[str]:
    ours = [_place(lines, name, against) for name in OURS]
    return [*ours, _worse(lines, against), _price(lines, against), _time(results, against)]


def _verdict(lines: Sequence[Line], against: str) -> str:
    higher = [line for line in lines if line["far"]["clear"] and line["far"]["mean"] > 0]
    where, above = _where(lines[0]["far"]["column"]), f"above {title_of(against)} by more than chance"
    if not higher:
        of = f"none of {len(lines)} methods is" if len(lines) > 1 else f"{title_of(lines[0]['row'])} is not"
        return f"{where}, {of} {above} between patients."
    count = (
        f"{len(higher)} of {len(lines)} methods are" if len(lines) > 1 else f"{title_of(higher[0]['row'])} is"
    )
    said = _named(higher, "far") if len(lines) > 1 else _value(higher[0]["far"])
    return f"{where}, {count} {above} between patients: {said}."


def _where(column: str) -> str:
    text = column.removeprefix("average ")
    return text[0].upper() + text[1:] if text != column else f"On {column}"


def _named(lines: Sequence[Line], key: str) -> str:
    said = [f"{title_of(line['row'])}, {line['head']}, {_value(line[key])}" for line in lines[:NAMED]]
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


def _place(lines: Sequence[Line], name: str, against: str) -> str:
    place = next((place for place, line in enumerate(lines, start=1) if line["row"] == name), 0)
    if not place or len(lines) < 2:
        return ""
    own = lines[place - 1]
    clean = f" and {_value(own['own'])} on clean own-site scans" if own["own"] else ""
    comes = f"{name} ({own['head']}) comes {place} of {len(lines)}"
    return f"Against {title_of(against)}, {comes}, with {_value(own['far'])} there{clean}."


def _worse(lines: Sequence[Line], against: str) -> str:
    worse = [line for line in reversed(lines) if line["far"]["clear"] and line["far"]["mean"] < 0]
    return f"Below {title_of(against)} there: {_named(worse, 'far')}." if worse else ""


def _price(lines: Sequence[Line], against: str) -> str:
    known = sorted((line for line in lines if line["own"]), key=lambda line: line["own"]["mean"])
    lost = [line for line in known if line["own"]["clear"] and line["own"]["mean"] < 0]
    where = f"On clean own-site scans, against {title_of(against)},"
    if lost:
        return f"{where} {len(lost)} of {len(known)} lose: {_named(lost, 'own')}."
    return f"{where} none loses by more than chance between patients." if known else ""


def _time(results: dict[str, Any], against: str) -> str:
    lines = speaking(results, TIME, against)
    where = f"At equal wall-clock time, against {title_of(against)}"
    return f"{where}: {_named(lines, 'far')}." if lines else ""


def _cost(results: dict[str, Any]) -> str:
    known = [line for line in results["cost"] if line["times_baseline"] and line["row"] != line["against"]]
    if not known:
        return ""
    ordered = sorted(known, key=lambda line: line["times_baseline"])
    first, last = ordered[0], ordered[-1]
    of = f"as long as one of {title_of(first['against'])}"
    shortest = f"A training step of {title_of(first['row'])} takes {first['times_baseline']:.1f} times"
    if first is last:
        return f"{shortest} {of}."
    return f"{shortest}, one of {title_of(last['row'])} {last['times_baseline']:.1f} times {of}."


def _caution(results: dict[str, Any]) -> str:
    once = [row for row in results["rows"] if len(row["draws"]) == 1 and len(row["seeds"]) == 1]
    trained = (
        f" Rows with one training ({len(once)}) say nothing of chance between trainings." if once else ""
    )
    return f"Brackets hold 95 % intervals over patients, each comparison by itself.{trained}"
