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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from coopseg.measures.consistency import find_disagreements
from coopseg.measures.frames import SINGLE, Frame
from coopseg.measures.remarks import Order, Remark, remark_on
from coopseg.measures.stack import LV, MYO, RV
from coopseg.text import counted, listing

DENSITY = 1.05  # g/ml of myocardium
ED, ES = "ED", "ES"
VENTRICLES = (LV, RV)
HEIGHTS, WEIGHTS = (25.0, 260.0), (0.3, 500.0)  # cm and kg that a human being can have
UNSCALED = "the spacing is not the true one, so there are ratios but no volumes"
NO_VALUE = "–"
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

    lines: what a reader of the numbers should know. slices: which slices count at ED and at ES. body: what
    is not known of it. reasons: those of the lines that say why there is no value, by the start of its
    column, such as "rv_ef". apart: those that say that numbers disagree.
    """

    values: Values
    lines: tuple[str, ...]
    slices: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    apart: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns all that is said of the patient beside the numbers."""
        return self.lines + self.beside

    @property
    def beside(self) -> tuple[str, ...]:
        """Returns what is good to know and no reason for a look."""
        return self.body + self.slices

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """Returns the lines, with what a person should see first."""
        return remark_on(self.lines, self._order)

    def _order(self, line: str) -> Order:
        if line in self.apart:
            return Order.DISAGREE
        return Order.NO_NUMBER if line != UNSCALED and line in self.reasons.values() else Order.OTHER


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
    if not all(frame.scaled for frame in frames):
        lines.append(UNSCALED)
    heart = _measure_heart(frames, names, body, lines) if is_heart(names) else Measured({}, tuple(lines))
    own: Values = {f"{name}_ml": frames[0].ml(name) for name in names[1:]} if len(frames) == 1 else {}
    values: Values = dict.fromkeys(columns(names))
    return replace(heart, values=values | heart.values | own, lines=tuple(dict.fromkeys(heart.lines)))


def _measure_heart(frames: Sequence[Frame], names: Sequence[str], body: Body, lines: list[str]) -> Measured:
    """Returns all that needs ED or ES. lines: what was said before."""
    ed, es, how = find_phases(frames, lines)
    lost = lines[-1] if ed is None or es is None else ""
    surface = _surface(body, lines)
    values: Values = {"ed": ed.name if ed else None, "es": es.name if es else None, "phases_by": how or None}
    values |= {"height_cm": body.height_cm, "weight_kg": body.weight_kg, "bsa_m2": surface}
    slices = [f"{phase}: {f.slices.describe()}" for phase, f in ((ED, ed), (ES, es)) if f and f.slices]
    reasons: dict[str, str] = {}
    if ed and es and not _share_a_grid(ed, es):
        lines.append("ED and ES lie in different grids")
        if not (ed.scaled and es.scaled):
            lines.append("their true spacing is not known, so ES is not compared with ED")
            es, lost = None, lines[-1]
    for ventricle in VENTRICLES:
        if ventricle in names:
            values |= _ventricle(ventricle, ed, es, surface, lines, reasons, lost)
    if MYO in names:
        full, reasons["lv_mass"] = _holding(MYO, ed, ED, lines, lost)
        volume = full.ml(MYO) if full else None
        values |= _indexed("lv_mass", "g", None if volume is None else DENSITY * volume, surface)
    apart = tuple(find_disagreements(ed, es)) if ed and es else ()
    return Measured(values, (*lines, *apart), tuple(slices), _unknown(body), reasons, apart)


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
    name: str,
    ed: Frame | None,
    es: Frame | None,
    surface: float | None,
    lines: list[str],
    reasons: dict[str, str],
    lost: str,
) -> Values:
    """Returns volumes and ejection fraction of one ventricle. lost: why there is no ED or no ES."""
    (ed, no_full), (es, no_left) = (_holding(name, ed, ED, lines, lost), _holding(name, es, ES, lines, lost))
    no_stroke = no_left if ed and not es else no_full or no_left
    full, left = (frame.size(name) if frame else None for frame in (ed, es))
    stroke = None if full is None or left is None else full - left
    if stroke is not None and stroke < 0:
        lines.append(f"{name}: larger at ES than at ED, so there is no SV and no EF; check the phases")
        stroke, no_stroke = None, lines[-1]
    scaled = bool(ed and es and ed.scaled and es.scaled)
    key = name.lower()
    reasons |= {f"{key}_edv": no_full, f"{key}_esv": no_left, f"{key}_sv": no_stroke, f"{key}_ef": no_stroke}
    return (
        _indexed(f"{key}_edv", "ml", ed.ml(name) if ed else None, surface)
        | _indexed(f"{key}_esv", "ml", es.ml(name) if es else None, surface)
        | _indexed(f"{key}_sv", "ml", stroke if scaled else None, surface)
        | {f"{key}_ef_percent": None if stroke is None or not full else 100 * stroke / full}
    )


def _holding(
    structure: str, frame: Frame | None, phase: str, lines: list[str], lost: str
) -> tuple[Frame | None, str]:
    """Returns a frame that holds the structure, and why it gives no volume, "" if it does.

    None, and a line, for one that does not hold it. lost: why there may be no frame.
    """
    if frame is None:
        return None, lost
    if frame.voxels[structure]:
        return frame, SINGLE if frame.voxel_ml is None else "" if frame.scaled else UNSCALED
    lines.append(f"{structure}: empty at {phase}")
    return None, lines[-1]


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
        return None
    for value, what, (least, most) in ((height, "height in cm", HEIGHTS), (weight, "weight in kg", WEIGHTS)):
        if not least <= value <= most:
            lines.append(f"{value:g} is no {what}, so nothing by body surface")
            return None
    return body_surface(height, weight)


def _unknown(body: Body) -> tuple[str, ...]:
    """Says what is not known of the body, so that nothing can be divided by its surface."""
    known = {"height": body.height_cm, "weight": body.weight_kg}
    missing = " and ".join(name for name, value in known.items() if value is None)
    return (f"no {missing}, so nothing by body surface",) if missing else ()


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


@dataclass(frozen=True)
class Cell:
    """Holds a value for people to read, and why there is none."""

    text: str
    why: str = ""


def in_words(measured: Measured) -> dict[str, Cell]:
    """Returns what was measured of the ventricles for people to read, in the order of the table.

    What is divided by the body's surface is left out where that is not known.

    >>> values = {"lv_ef_percent": 61.234, "rv_edv_ml": None}
    >>> found = in_words(Measured(values, (), reasons={"rv_edv": "no ED"}))
    >>> found["LV EF"], found["RV EDV"]
    (Cell(text='61 %', why=''), Cell(text='–', why='no ED'))
    """
    found = {}
    indexed = measured.values.get("bsa_m2") is not None
    for column, value in measured.values.items():
        side, _, rest = column.partition("_")
        unit = next((unit for end, unit in UNITS.items() if column.endswith(end)), None)
        what = rest.partition("_")[0]
        if unit and side.upper() in VENTRICLES and rest != "ml" and (indexed or not what.endswith("i")):
            shown = what.removesuffix("i") if what.startswith("mass") else what.removesuffix("i").upper()
            index = " index" if what.endswith("i") else ""
            found[f"{side.upper()} {shown}{index}"] = (
                Cell(f"{value:.0f} {unit}")
                if isinstance(value, float)
                else Cell(NO_VALUE, measured.reasons.get(f"{side}_{what.removesuffix('i')}", ""))
            )
    return found
