"""Holds trainers for nnU-Net v2; `TRAINERS` is the folder that its nnUNet_extTrainer is to name."""

from pathlib import Path

TRAINERS = Path(__file__).parent
