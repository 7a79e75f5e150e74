"""Computes volumes, ejection fractions and mass of a patient's heart from counted voxels.

A volume is the sum of its voxels, which is the summation of discs: each slice counts with its area times the
distance to the next, so that gaps between slices are included. End diastole (ED) is the phase with the
largest LV, end systole (ES) that with the smallest; the RV is measured at the same two. The mass is that of
the myocardium at ED, at 1.05 g/ml. Papillary muscles count as what they were labelled.
Source: Schulz-Menger et al., Standardized image interpretation and post-processing in cardiovascular
magnetic resonance, 2020 update, J Cardiovasc Magn Reson 22:19, doi 10.1186/s12968-020-00610-6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coopseg.measures.consistency import find_disagreements
from coopseg.measures.frames import Frame
from coopseg.measures.stack import LV, MYO, RV
from coopseg.text import counted, listing

DENSITY = 1.05  # g/ml of myocardium
ED, ES = "ED", "ES"
VENTRICLES = (LV, RV)
HEIGHTS, WEIGHTS = (25.0, 260.0), (0.3, 500.0)  # cm and kg that a human being can have
SAME_GRID = 1e-3  # by what share voxels of one grid may differ
Value = float | str | None
Values = dict[str, Value]


@dataclass(frozen=True)
class Body:
    """Holds a patient's height and weight, None where they are not known."""

    height_cm: float | None = None
    weight_kg: float | None = None


@dataclass(frozen=True)
class Measured:
    """Holds what was measured of a patient, by column.

    lines: what a reader of the numbers should know. slices: which slices count at ED and at ES.
    """

    values: Values
    lines: tuple[str, ...]
    slices: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns all that is said of the patient beside the numbers."""
        return self.lines + self.slices


def measure_patient(frames: Sequence[Frame], names: Sequence[str], body: Body = Body()) -> Measured:
    """Measures a patient.

    frames: all label maps of the patient. names: of the classes, background first. Returns the values of
    `columns`, None wherever a number would stand for nothing; a line then says why.
    """
    found: dict[str, list[str]] = {}
    for frame in frames:
        for line in frame.lines:
            found.setdefault(line, []).append(frame.name)
    whole = len(frames)
    lines = [line if len(n) == whole else f"{listing(n, most=3)}: {line}" for line, n in found.items()]
    values: Values = dict.fromkeys(columns(names))
    slices: list[str] = []
    if not all(frame.scaled for frame in frames):
        lines.append("the spacing is not the true one, so there are ratios but no volumes")
    if is_heart(names):
        values |= _measure_heart(frames, names, body, lines, slices)
    if len(frames) == 1:
        values |= {f"{name}_ml": frames[0].ml(name) for name in names[1:]}
    return Measured(values, tuple(dict.fromkeys(lines)), tuple(slices))


def _measure_heart(
    frames: Sequence[Frame], names: Sequence[str], body: Body, lines: list[str], slices: list[str]
) -> Values:
    """Returns all that needs ED or ES, and adds to `lines` and `slices`."""
    ed, es, how = find_phases(frames, lines)
    surface = _surface(body, lines)
    values: Values = {"ed": ed.name if ed else None, "es": es.name if es else None, "phases_by": how or None}
    values |= {"height_cm": body.height_cm, "weight_kg": body.weight_kg, "bsa_m2": surface}
    slices += [f"{phase}: {f.slices.describe()}" for phase, f in ((ED, ed), (ES, es)) if f and f.slices]
    if ed and es and not _share_a_grid(ed, es):
        lines.append("ED and ES lie in different grids")
        if not (ed.scaled and es.scaled):
            lines.append("their true spacing is not known, so ES is not compared with ED")
            es = None
    for ventricle in VENTRICLES:
        if ventricle in names:
            values |= _ventricle(ventricle, ed, es, surface, lines)
    if MYO in names:
        full = _holding(MYO, ed, ED, lines)
        volume = full.ml(MYO) if full else None
        values |= _indexed("lv_mass", "g", None if volume is None else DENSITY * volume, surface)
    if ed and es:
        lines += find_disagreements(ed, es)
    return values


def _share_a_grid(ed: Frame, es: Frame) -> bool:
    """Tells whether two frames have voxels of one size."""
    return math.isclose(ed.voxel_ml or 0, es.voxel_ml or 0, rel_tol=SAME_GRID)


def find_phases(frames: Sequence[Frame], lines: list[str]) -> tuple[Frame | None, Frame | None, str]:
    """Returns the frames of ED and ES, None where there is none, and how they were found; adds to `lines`.

    Frames that are called ED or ES are taken. If none is, ED is the labelled frame with the largest LV, ES
    that with the smallest, the first of several.
    """
    called = {frame.phase: frame for frame in frames if frame.phase}
    if called:
        lines += [f"no {phase}" for phase in (ED, ES) if phase not in called]
        return called.get(ED), called.get(ES), "given"
    drawn = [frame for frame in frames if frame.is_labelled]
    if 0 < len(drawn) < len(frames):
        lines.append(
            f"{len(frames) - len(drawn)} of {counted(len(frames), 'phase')} without any label left out"
        )
    why = _why_no_phases(drawn)
    if why:
        lines.append(f"{why}, so neither ED nor ES is known")
        return None, None, ""
    sizes = [_relative_size(frame) for frame in drawn]
    return drawn[int(np.argmax(sizes))], drawn[int(np.argmin(sizes))], "LV volume"


def _why_no_phases(drawn: Sequence[Frame]) -> str:
    """Says why labelled frames show neither ED nor ES, "" if they do."""
    if not drawn:
        return "nothing is labelled"
    if LV not in drawn[0].voxels:
        return "there is no LV"
    if len(drawn) == 1:
        return "there is one phase and nothing says which"
    if len({_relative_size(frame) for frame in drawn}) == 1:
        return "the LV has one size in all phases"
    return ""


def _relative_size(frame: Frame) -> float:
    return frame.voxels[LV] * (frame.voxel_ml or 1.0)


def _ventricle(
    name: str, ed: Frame | None, es: Frame | None, surface: float | None, lines: list[str]
) -> Values:
    """Returns volumes and ejection fraction of one ventricle."""
    ed, es = _holding(name, ed, ED, lines), _holding(name, es, ES, lines)
    full, left = (frame.size(name) if frame else None for frame in (ed, es))
    stroke = None if full is None or left is None else full - left
    if stroke is not None and stroke < 0:
        lines.append(f"{name}: larger at ES than at ED, so there is no SV and no EF; check the phases")
        stroke = None
    scaled = bool(ed and es and ed.scaled and es.scaled)
    key = name.lower()
    return (
        _indexed(f"{key}_edv", "ml", ed.ml(name) if ed else None, surface)
        | _indexed(f"{key}_esv", "ml", es.ml(name) if es else None, surface)
        | _indexed(f"{key}_sv", "ml", stroke if scaled else None, surface)
        | {f"{key}_ef_percent": None if stroke is None or not full else 100 * stroke / full}
    )


def _holding(structure: str, frame: Frame | None, phase: str, lines: list[str]) -> Frame | None:
    """Returns a frame that holds the structure; None, and a line, for one that does not."""
    if frame is None or frame.voxels[structure]:
        return frame
    lines.append(f"{structure}: empty at {phase}")
    return None


def _indexed(key: str, unit: str, value: float | None, surface: float | None) -> Values:
    """Returns a value, and the same by m² of body surface."""
    index = None if value is None or surface is None else value / surface
    return {f"{key}_{unit}": value, f"{key}i_{unit}_per_m2": index}


def body_surface(height_cm: float, weight_kg: float) -> float:
    """Returns the body's surface in m², √(cm × kg / 3600).

    Source: Mosteller, Simplified calculation of body-surface area, N Engl J Med 317:1098, 1987,
    doi 10.1056/NEJM198710223171717.

    >>> body_surface(180, 80)
    2.0
    """
    return math.sqrt(height_cm * weight_kg / 3600)


def _surface(body: Body, lines: list[str]) -> float | None:
    """Returns the body's surface; None where height or weight is not known, or not that of a person."""
    height, weight = body.height_cm, body.weight_kg
    if height is None or weight is None:
        if (height, weight) != (None, None):
            lines.append(f"no {'height' if height is None else 'weight'}, so nothing is indexed")
        return None
    for value, what, (least, most) in ((height, "height in cm", HEIGHTS), (weight, "weight in kg", WEIGHTS)):
        if not least <= value <= most:
            lines.append(f"{value:g} is no {what}, so nothing is indexed")
            return None
    return body_surface(height, weight)


def is_heart(names: Sequence[str]) -> bool:
    """Tells whether one of the classes is the LV, its myocardium or the RV."""
    return bool({LV, MYO, RV} & set(names))


def columns(names: Sequence[str]) -> tuple[str, ...]:
    """Returns what is measured of these classes, background first, in the order of the table.

    NAME_ml is the volume of a structure of a patient with one phase alone.

    >>> columns(["background", "liver"])
    ('liver_ml',)
    """
    if not is_heart(names):
        return tuple(f"{name}_ml" for name in names[1:])
    keys = [name.lower() for name in VENTRICLES if name in names]
    found = [f"{key}_{part}" for key in keys for part in ("edv_ml", "esv_ml", "sv_ml", "ef_percent")]
    found += ["lv_mass_g"] * (MYO in names)
    parts = [name.rpartition("_") for name in found if not name.endswith("percent")]
    indexed = [f"{key}i_{unit}_per_m2" for key, _, unit in parts]
    body = ("height_cm", "weight_kg", "bsa_m2")
    return ("ed", "es", "phases_by", *found, *body, *indexed, *(f"{name}_ml" for name in names[1:]))


UNITS = {"_ml_per_m2": "ml/m²", "_g_per_m2": "g/m²", "_ef_percent": "%", "_ml": "ml", "_g": "g"}


def in_words(measured: Measured) -> dict[str, str]:
    """Returns what was measured of the ventricles for people to read.

    >>> in_words(Measured({"lv_ef_percent": 61.234, "lv_mass_g": 120.0, "rv_edv_ml": None}, ()))
    {'LV EF': '61 %', 'LV mass': '120 g'}
    """
    found = {}
    for column, value in measured.values.items():
        side, _, rest = column.partition("_")
        unit = next((unit for end, unit in UNITS.items() if column.endswith(end)), None)
        if isinstance(value, float) and unit and side.upper() in VENTRICLES and rest != "ml":
            what = rest.partition("_")[0]
            shown = what.removesuffix("i") if what.startswith("mass") else what.removesuffix("i").upper()
            index = " index" if what.endswith("i") else ""
            found[f"{side.upper()} {shown}{index}"] = f"{value:.0f} {unit}"
    return found
