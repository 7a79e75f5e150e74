"""Imports all that a training needs and builds the kernels; loaded by the fork server of killed.py."""

from __future__ import annotations

import coopseg.training.run  # noqa: F401 (the children need it)
from coopseg.networks.native import kernels

kernels()
