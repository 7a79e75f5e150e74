"""Holds what a validation found, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coopseg.checks.rules import RULES, Severity
from coopseg.errors import CoopsegError


@dataclass(frozen=True)
class Finding:
    """Says which rule is broken and where.

    file: relative to the data set, "" for the data set as a whole; a split file as it was given.
    case: id of the volume, the patient if a file holds several volumes, "" if it concerns neither.
    rule: a name of `RULES`. found: what is wrong there. do: what to do about it.
    """

    file: str
    case: str
    rule: str
    severity: Severity
    found: str
    do: str


@dataclass(frozen=True)
class Fault:
    """Says which rule is broken before it is known where. do: advice better than the rule's own."""

    rule: str
    found: str
    do: str = ""

    def at(self, file: str = "", case: str = "") -> Finding:
        """Returns the finding at a place."""
        rule = RULES[self.rule]
        return Finding(file, case, rule.name, rule.severity, self.found, self.do or rule.do)


@dataclass(frozen=True)
class Report:
    """Holds all findings on a data set, errors first, then in the data set's order.

    layout: "" if the data set could not be opened. patients, volumes: how many were looked at.
    unlabelled: test images without labels, which only `predict` can use.
    """

    data: Path
    layout: str
    patients: int
    volumes: int
    findings: tuple[Finding, ...]
    unlabelled: int = 0

    @property
    def errors(self) -> int:
        """Counts the findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Counts the findings that are warnings."""
        return len(self.findings) - self.errors

    def as_dict(self) -> dict[str, Any]:
        """Returns a dict for JSON."""
        return {
            "data": str(self.data),
            "layout": self.layout,
            "patients": self.patients,
            "volumes": self.volumes,
            "unlabelled": self.unlabelled,
            "findings": [asdict(finding) for finding in self.findings],
            "errors": self.errors,
            "warnings": self.warnings,
        }


def relative(path: Path, root: Path) -> str:
    """Formats a path with forward slashes, relative to `root` if it lies below it."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def fault_of(error: CoopsegError, *, otherwise: str, root: Path) -> tuple[str, Fault]:
    """Splits "PATH: what was found; what to do" into file and fault. otherwise: the rule if it has none."""
    text = str(error).removeprefix(f"{root}/").replace(f" {root}/", " ")
    place, _, rest = text.partition(": ")
    found, _, do = rest.partition("; ")
    return place, Fault(error.rule or otherwise, found, do)
