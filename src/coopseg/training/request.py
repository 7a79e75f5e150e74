"""Defines what a training is asked to do: one model for `coopseg.train`, its options and request.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from coopseg.config.methods import METHODS, PRESETS, RIVALS
from coopseg.config.section import Section

ABSENT = "nothing"


class TrainingRequest(Section):
    """Holds the arguments of `coopseg.train`, in values that JSON can hold, paths absolute.

    The descriptions are the help texts of `coopseg train`.
    """

    data: str = Field(description="folder of the data set")
    preset: str = Field("default", description=f"how much to train: {', '.join(PRESETS)}")
    method: str | None = Field(
        None,
        description=f"which losses to train with: {', '.join(METHODS)}; a rival: {', '.join(RIVALS)}, or "
        "your own as module:class; or METHOD+RIVAL",
    )
    split: str = Field(
        "random",
        description="how to divide the patients: random, a name (`coopseg info`), a JSON or YAML file",
    )
    layout: str = Field(
        "auto",
        description="how the data set is laid out (`coopseg info` lists layouts); auto recognises it",
    )
    labels: str | None = Field(
        None,
        description='names of the label values, e.g. "LV=1,MYO=2,RV=3"; several data sets keep names of '
        "their own",
    )
    settings: Mapping[str, Any] = Field(
        {}, description="change a setting; may be repeated; `coopseg info --settings` lists all"
    )
    seed: int = Field(0, description="seed of split, weights, batches, augmentation and masks")
    device: str = Field("auto", description="where to compute; auto takes the fastest device there is")
    precision: str = Field("32", description="bf16 is mixed precision, faster where supported")
    cache: str | None = Field(None, description="folder to keep prepared cases in")
    save_every: float = Field(60.0, ge=0, description="seconds between two checkpoints")
