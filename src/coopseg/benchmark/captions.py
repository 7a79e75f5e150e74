"""What captions and headings say of a table, in the same words on the page, in Markdown and in LaTeX."""

from __future__ import annotations

from typing import Any

from coopseg.benchmark.columns import SPIKES, WITHOUT_SPIKES
from coopseg.config.methods import title_of

SPIKES_NOTE = (
    f"{SPIKES} adds a spike of one to three times the maximum of k-space, which leaves nothing of a scan to "
    "see; the average without spikes is over all data sets but that one."
)


def spikes_note(results: dict[str, Any]) -> str:
    """Why there is an average without spikes, for a caption; "" where there is none."""
    return SPIKES_NOTE if any(column["name"] == WITHOUT_SPIKES for column in results["columns"]) else ""


def nothing_compared(results: dict[str, Any]) -> str:
    """What is said in place of differences where there are none."""
    names = " or ".join(map(title_of, results["baselines"]))
    return f"No row has been evaluated on a draw on which {names} was: nothing to compare."


def cost_unit(results: dict[str, Any]) -> str:
    """The title of the column that holds a step's cost over a baseline's."""
    against = next((entry["against"] for entry in results["cost"] if entry["against"]), "")
    return f"× {title_of(against)}" if against else "× baseline"


def nought_text(results: dict[str, Any]) -> str:
    """What severity 0 is, for a caption."""
    asked = [curve["measured_nought"] for curve in results["severity"]]
    copies = "0 is the copies without artefact, cropped and rescaled as the others"
    clean = "0 is the clean set, neither cropped nor rescaled"
    if any(asked) and not all(asked):
        rows = dict.fromkeys(title_of(c["row"]) for c in results["severity"] if not c["measured_nought"])
        return f"{copies}; for {', '.join(rows)} {clean}"
    return copies if all(asked) else clean
