"""Presets and methods by name: a preset says how much is trained on what, a method with which losses.

Both are plain overrides of the defaults in settings.py, laid over each other: preset, method, then what the
user sets.
"""

from __future__ import annotations

from typing import Any

Overrides = dict[str, dict[str, Any]]

PUBLISHED_LATENT: dict[str, Any] = {
    "scope": "batch",
    "score": "gradient",
    "ties": "strict",
    "skip_dead": False,
    "published_dropout": True,
    "norm": "published",
}

PRESETS: dict[str, Overrides] = {
    "default": {},
    # Chen et al. 2021 with the choices of the published code.
    "miccai2021": {"latent": PUBLISHED_LATENT},
    # How the successor paper (Chen et al. 2022, MaxStyle) ran this method: FTN alone, "LSM".
    "lsm2022": {
        "latent": {**PUBLISHED_LATENT, "p": 0.33, "rescale": True},
        "losses": {"stn": False, "separate": True},
        "training": {"optimizer": "adamw", "epochs": 1500, "select": "FTN"},
    },
    # Trained in minutes on two CPU cores; chosen on validation patients, see docs/results.md.
    "cpu": {
        "cases": {"spacing": 1.5, "size": (128, 128)},
        "training": {
            "batch_size": 8,
            "steps": 600,
            "learning_rate": 2e-3,
            "schedule": "one_cycle",
            "validations": 3,
        },
    },
}

WITHOUT_MASKS: dict[str, Any] = {"image": False, "shape": False}

METHODS: dict[str, Overrides] = {
    "cooperative": {},
    "cooperative-no-latent": {"latent": WITHOUT_MASKS},
    "standard": {"latent": WITHOUT_MASKS, "losses": {"separate": True}},
    # Ablations of cooperative training, one choice each.
    "separate": {"losses": {"separate": True}},
    "image-masks": {"latent": {"shape": False}},
    "shape-masks": {"latent": {"image": False}},
    "dropout-masks": {"latent": {"scheme": "dropout"}},
    "no-decoupler": {"network": {"decoupler": False}},
    "no-input-noise": {"losses": {"input_noise": 0.0}},
}

DESCRIPTIONS: dict[str, str] = {
    "default": "the published schedule with this project's own choices for the masks",
    "miccai2021": "Chen et al. 2021 as published: 600 epochs, batch 20, 192 x 192",
    "lsm2022": "as the successor paper ran it: no STN, p 0.33, AdamW, 1500 epochs",
    "cpu": "minutes on two CPU cores: 128 x 128, batch 8",
    "cooperative": "FTN and STN trained together on clean and hard examples",
    "cooperative-no-latent": "FTN and STN trained together, no latent masks",
    "standard": "FTN alone; an STN beside it on detached predictions",
    "separate": "no gradient from the STN into the FTN",
    "image-masks": "masks on the image code only",
    "shape-masks": "masks on the shape code only",
    "dropout-masks": "random channels only, no targeted masks",
    "no-decoupler": "image code and shape code are one",
    "no-input-noise": "no noise on the clean image",
}
