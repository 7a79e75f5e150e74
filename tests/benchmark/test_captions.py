"""Captions say what the numbers above them are of."""

from __future__ import annotations

from typing import Any

from coopseg.benchmark.captions import cost_unit, nothing_compared, nought_text, spikes_note


def severity(**measured: bool) -> dict[str, Any]:
    return {"severity": [{"row": row, "measured_nought": value} for row, value in measured.items()]}


def test_what_severity_nought_is() -> None:
    copies = "0 is the copies without artefact, cropped and rescaled as the others"
    clean = "0 is the clean set, neither cropped nor rescaled"
    assert nought_text(severity(dsu=True, rsc=True)) == copies
    assert nought_text(severity(dsu=False)) == clean
    mixed = nought_text(severity(dsu=True, standard=False))
    assert mixed == f"{copies}; for standard (separate STN) {clean}"


def test_the_rest_names_what_it_speaks_of() -> None:
    assert spikes_note({"columns": [{"name": "average of all"}]}) == ""
    assert "RandSpike" in spikes_note({"columns": [{"name": "average without spikes"}]})
    said = nothing_compared({"baselines": ["cooperative-no-latent", "standard"]})
    assert "standard (published: joint STN) or standard (separate STN) was" in said
    costs = [{"against": None}, {"against": "cooperative-no-latent"}]
    assert cost_unit({"cost": costs}) == "× standard (published: joint STN)"
    assert cost_unit({"cost": costs[:1]}) == "× baseline"
