"""Defines the verbs for a first look: `coopseg info` and `coopseg demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from coopseg.cli.console import DemoDisplay, say, say_report


def info(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="list every setting with its default and meaning")
    ] = False,
) -> None:
    """List presets, methods, layouts, splits, devices and versions, or all settings."""
    content = _settings() if settings else _facts()
    if as_json:
        say(json.dumps(content, indent=1))
        return
    for title, entries in content.items():
        say(f"{title}:")
        width = max(map(len, entries))
        for name, text in entries.items():
            say(f"  {name:{width}}  {text}".rstrip())


def _facts() -> dict[str, dict[str, str]]:
    from coopseg.cases.splits import NAMED
    from coopseg.config.methods import METHODS, PRESETS, RIVALS
    from coopseg.inference.model import usable_devices
    from coopseg.scans.layouts import LAYOUTS
    from coopseg.versions import versions

    sizes = {name: tuple(map(len, parts)) for name, parts in NAMED.items()}
    return {
        "presets": {name: entry.about for name, entry in PRESETS.items()},
        "methods": {name: entry.about for name, entry in METHODS.items()},
        "rivals": {name: entry.about for name, entry in RIVALS.items()},
        "layouts": {name: layout.looked_for for name, layout in LAYOUTS.items()},
        "splits": {
            "random": "70 / 10 / 20 % of the patients, drawn with --seed",
            **{name: "{} train, {} validate, {} test".format(*size) for name, size in sizes.items()},
        },
        "devices": {name: "usable" for name in usable_devices()},
        "versions": versions(),
    }


def _settings() -> dict[str, dict[str, str]]:
    """Returns {section: {"section.key": "default (choices): meaning"}}."""
    from coopseg.config.resolve import setting_fields

    found: dict[str, dict[str, str]] = {}
    for key, field in setting_fields().items():
        if "." in key:
            found.setdefault(key.partition(".")[0], {})[key] = _describe(field)
    return found


def _describe(field: Any) -> str:
    from typing import Literal, get_args, get_origin

    default = json.dumps(field.default)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    listed = f" ({', '.join(map(str, choices))})" if choices else ""
    return f"{default}{listed}" + (f": {field.description}" if field.description else "")


def demo(
    out: Annotated[Path, typer.Argument(help="folder to make")] = Path("demo"),
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each method; each takes minutes")] = 1,
) -> None:
    """Show the problem and the method on made-up scans, in minutes: train, corrupt, test, report, segment.

    It trains the standard and the cooperative method on one made-up site, and tests both on other patients of
    that site, on their corrupted copies and on three other sites, also how well they foretell the Dice of
    their label maps. Then it has the last network segment a DICOM study, as `coopseg predict --page --dicom`
    does. OUT gets phantom/, corrupted/, runs/, report/report.html, study/ and study-results/.
    """
    from coopseg.demo import run_demo

    with DemoDisplay() as display:
        page = run_demo(out, seeds=seeds, progress=display)
    say_report(page)
    _say_expected(out)
    _say_study(out)


def _say_expected(out: Path) -> None:
    """Prints how well the last network's Dice was foretold, on each data set of a demo."""
    from coopseg.demo import METHODS
    from coopseg.evaluation.expected import TABLE, Estimate
    from coopseg.evaluation.run import RECORD

    folder = max((out / "runs").glob(f"{METHODS[-1]}-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    record = json.loads((folder / "evaluation" / RECORD).read_text(encoding="utf-8"))
    say(f"\nwhat {folder.name} expected of its own label maps, beside the truth:")
    for each in record["expected_dice"]:
        say(f"  {Estimate(**each).describe()}")
    say(f"each volume: {folder / 'evaluation' / TABLE}")


def _say_study(out: Path) -> None:
    """Prints what became of the DICOM study of a demo, and how to do the same again."""
    from coopseg.demo import RESULTS, STUDY
    from coopseg.dicom.find import INSTALL
    from coopseg.inference.predict import OBJECTS, RECORD
    from coopseg.measures.write import TABLE
    from coopseg.phantom.dicom import PATIENT

    results = out / RESULTS
    if not results.is_dir():
        say(f"left out: to segment a DICOM study and write SEG and SR; {INSTALL} adds it")
        return
    run = Path(json.loads((results / RECORD).read_text(encoding="utf-8"))["model"]["path"]).parent
    say(f"\na DICOM study, segmented: open in a browser: {(results / f'{PATIENT}.html').resolve()}")
    say(f"its volumes: {results / TABLE}; SEG and SR: {results / OBJECTS}; the same once more:")
    say(f"  coopseg predict --model {run} {out / STUDY} --page --dicom --out {out / 'again'}")
