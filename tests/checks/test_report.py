"""Findings as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coopseg.checks.report import Fault, Finding, Report, fault_of, relative
from coopseg.errors import CoopsegError

ROOT = Path("/data/set")


def test_a_report_survives_json() -> None:
    findings = (Fault("nan", "3 of 4").at("a.nii", "a"), Fault("shear", "bent", "unbend").at())
    report = Report(ROOT, "acdc", 1, 2, findings)
    content = json.loads(json.dumps(report.as_dict()))
    assert list(content) == [
        "data", "layout", "patients", "volumes", "unlabelled", "findings", "errors", "warnings",
    ]  # fmt: skip
    assert tuple(Finding(**entry) for entry in content["findings"]) == findings
    assert (content["data"], content["errors"], content["warnings"]) == ("/data/set", 1, 1)
    assert content["findings"][0]["do"] == "replace them and export again"  # the rule's own advice
    assert content["findings"][1]["do"] == "unbend"


@pytest.mark.parametrize(
    ("message", "place", "fault"),
    [
        ("/data/set/a.nii: is bad; mend it", "a.nii", Fault("layout", "is bad", "mend it")),
        ("/data/set: empty; fill it; or not", "/data/set", Fault("layout", "empty", "fill it; or not")),
        ("/data/set/a.nii: unlike /data/set/b.nii", "a.nii", Fault("layout", "unlike b.nii", "")),
        ("/other/a.nii: gone", "/other/a.nii", Fault("layout", "gone")),
    ],
)
def test_an_error_becomes_a_fault(message: str, place: str, fault: Fault) -> None:
    assert fault_of(CoopsegError(message), otherwise="layout", root=ROOT) == (place, fault)


def test_an_error_may_bring_its_rule() -> None:
    _, fault = fault_of(CoopsegError("a: b; c", rule="nan"), otherwise="layout", root=ROOT)
    assert fault == Fault("nan", "b", "c")


def test_files_are_named_as_in_the_data_set() -> None:
    assert relative(ROOT / "x" / "a.nii", ROOT) == "x/a.nii"
    assert relative(Path("/other/a.nii"), ROOT) == "/other/a.nii"
