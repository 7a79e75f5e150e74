"""Compares numbers of one heart that should agree; where they do not, a person should look at the outlines.

Both ventricles pump the same volume in each beat unless a valve leaks or there is a shunt: in healthy people
the stroke volume of the LV is 0.97 ± 0.06 of that of the RV (Sechtem et al., Radiology 163:697, 1987). Muscle
keeps its volume through the beat: a mass at ES more than 20 g from that at ED goes with stroke volumes that
are 9 ml wrong on average (https://pubmed.ncbi.nlm.nih.gov/17453498). The shares are this package's own.
"""

from __future__ import annotations

from coopseg.measures.frames import Frame
from coopseg.measures.stack import LV, MYO, RV

STROKES_APART, STROKES_ML = 0.3, 15.0  # a larger share and more ml than these are said
MUSCLE_APART, MUSCLE_ML = 0.2, 19.0  # 20 g


def find_disagreements(ed: Frame, es: Frame) -> list[str]:
    """Returns a line each where stroke volumes, or the myocardium at ED and at ES, lie far apart.

    ed, es: of voxels that can be compared. Where volumes are not true, shares alone decide.
    """
    lines = []
    strokes = [_size(LV, ed) - _size(LV, es), _size(RV, ed) - _size(RV, es)] if _hold(LV, RV, ed, es) else []
    if strokes and min(strokes) >= 0 and _apart(strokes, ed, es, STROKES_APART, STROKES_ML):
        lines.append(
            f"stroke volumes of LV and RV differ by {_share(strokes)}{_in_ml(strokes, ed, es)}; without "
            "regurgitation or shunt they are equal, so look at both outlines at ED and at ES"
        )
    muscle = [_size(MYO, ed), _size(MYO, es)] if _hold(MYO, MYO, ed, es) else []
    if muscle and _apart(muscle, ed, es, MUSCLE_APART, MUSCLE_ML):
        lines.append(
            f"volumes of the myocardium at ED and at ES differ by {_share(muscle)}{_in_ml(muscle, ed, es)}; "
            "muscle keeps its volume, so look at its outlines at both"
        )
    return lines


def _hold(one: str, other: str, *frames: Frame) -> bool:
    """Tells whether all frames hold both structures, and volumes of them."""
    return all(f.voxels.get(one) and f.voxels.get(other) and f.voxel_ml for f in frames)


def _size(structure: str, frame: Frame) -> float:
    return frame.size(structure) or 0.0


def _apart(pair: list[float], ed: Frame, es: Frame, share: float, ml: float) -> bool:
    """Tells whether two sizes differ by more than a share of the larger and, where known, by more ml."""
    difference = max(pair) - min(pair)
    return difference > share * max(pair) and (not (ed.scaled and es.scaled) or difference > ml)


def _share(pair: list[float]) -> str:
    return f"{1 - min(pair) / max(pair):.0%}".replace("%", " %")


def _in_ml(pair: list[float], ed: Frame, es: Frame) -> str:
    return f" ({pair[0]:.0f} and {pair[1]:.0f} ml)" if ed.scaled and es.scaled else ""
