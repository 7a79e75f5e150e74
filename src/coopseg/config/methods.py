"""Names presets, which say how much is trained and on what, and methods, which say with which losses.

Both override the defaults in settings.py. The preset is applied first, then the method, then the user's own
settings. Rivals, in rivals.py, add their terms to those of a method.
"""

from __future__ import annotations

from collections.abc import Mapping

from coopseg.config.rivals import rival_table
from coopseg.config.section import Named, Value

PUBLISHED_LATENT: Mapping[str, Value] = {
    "scope": "batch",
    "score": "gradient",
    "ties": "strict",
    "skip_dead": False,
    "published_dropout": True,
    "norm": "published",
}

ON_CPU_CASES: Mapping[str, Value] = {"spacing": 1.5, "size": (128, 128)}
ON_CPU: Mapping[str, Value] = {"batch_size": 8, "learning_rate": 2e-3, "schedule": "one_cycle"}

PRESETS = {
    "default": Named("the published schedule with this project's own choices for the masks"),
    # Chen et al. 2021 with the choices of the published code.
    "miccai2021": Named(
        "Chen et al. 2021 as published: 600 epochs, batch 20, 192 x 192", {"latent": PUBLISHED_LATENT}
    ),
    # How the successor paper (Chen et al. 2022, MaxStyle) ran this method: FTN alone, "LSM".
    "lsm2022": Named(
        "as the successor paper ran it: no STN, p 0.33, AdamW, 1500 epochs",
        {
            "latent": {**PUBLISHED_LATENT, "p": 0.33, "rescale": True, "norm": "frozen"},
            "losses": {"stn": False, "separate": True},
            "augmentation": {"shift": 0.0, "random_crop": True},
            "training": {"optimizer": "adamw", "weight_decay": 0.01, "epochs": 1500},
        },
    ),
    # Chosen on validation, the same for every method: see docs/research.md.
    "cpu": Named(
        "twenty minutes on two CPU cores: 128 x 128, batch 8, 3000 steps",
        {
            "cases": ON_CPU_CASES,
            "losses": {"dice": 1.0},
            "training": {**ON_CPU, "plain_half": False, "ema": 0.995, "steps": 3000, "validations": 10},
        },
    ),
    # For demos and tests: long enough for networks to begin to learn.
    "quick": Named(
        "128 x 128, batch 8, 600 steps, CE, half of a batch plain: for demos and tests",
        {"cases": ON_CPU_CASES, "training": {**ON_CPU, "steps": 600, "validations": 3}},
    ),
}

WITHOUT_MASKS: Mapping[str, Value] = {"image": False, "shape": False}
UNET: Mapping[str, Value] = {"kind": "unet"}
RECIPE: Mapping[str, Mapping[str, Value]] = {
    "latent": WITHOUT_MASKS,
    "losses": {"separate": True, "stn_every": 2, "damage": True, "reconstruction": 0.0},
    "augmentation": {"random_networks": 0.25},
    "prediction": {"scan_statistics": 1.0},
}

# Ablations of cooperative training; each changes one choice.
ABLATIONS = {
    "dropout-masks": Named("random channels only, no targeted masks", {"latent": {"scheme": "dropout"}}),
    "channel-masks": Named("channels by score only", {"latent": {"scheme": "channel"}}),
    "spatial-masks": Named("positions by score only", {"latent": {"scheme": "spatial"}}),
    "image-masks": Named("masks on the image code only", {"latent": {"shape": False}}),
    "shape-masks": Named("masks on the shape code only", {"latent": {"image": False}}),
    "score-saliency": Named("masks ranked by -g·z", {"latent": {"score": "saliency"}}),
    "score-magnitude": Named("masks ranked by |g|", {"latent": {"score": "magnitude"}}),
    "score-score": Named("masks ranked by the gradient of output × target", {"latent": {"score": "score"}}),
    "per-batch": Named("one scheme and one masked fraction a batch", {"latent": {"scope": "batch"}}),
    "shared-code": Named("both decoders read the shape code", {"network": {"shared_code": True}}),
    "no-decoupler": Named("image code and shape code are one", {"network": {"decoupler": False}}),
    "separate": Named("no gradient from the STN into the FTN", {"losses": {"separate": True}}),
    "norm-published": Named("BatchNorm in the hard pass as published", {"latent": {"norm": "published"}}),
    "norm-shared": Named(
        "BatchNorm in the hard pass as in the standard pass", {"latent": {"norm": "shared"}}
    ),
    "norm-frozen": Named(
        "BatchNorm in the hard pass by batch statistics, its weights without gradient",
        {"latent": {"norm": "frozen"}},
    ),
    "no-input-noise": Named("no noise on the clean image", {"losses": {"input_noise": 0.0}}),
    "temperature-1": Named("the STN reads softmax(p), not softmax(p / 2)", {"losses": {"temperature": 1.0}}),
    "half-way": Named(
        "standard training for the first half, then cooperative", {"training": {"cooperate_after": 0.5}}
    ),
}

METHODS = {
    # Chosen on validation: see docs/research.md.
    "coopseg": Named(
        "the default: a U-Net, no reconstruction, random networks, scan statistics, an STN on damaged labels",
        {**RECIPE, "network": UNET, "prediction": {**RECIPE["prediction"], "head": "FTN"}},
        main=True,
    ),
    "coopseg-published": Named("the default's recipe on the published networks", RECIPE),
    "standard": Named(
        "FTN alone; an STN beside it on detached predictions",
        {"latent": WITHOUT_MASKS, "losses": {"separate": True}},
        title="standard (separate STN)",
        main=True,
    ),
    "unet": Named(
        "standard training of the U-Net",
        {"network": UNET, "latent": WITHOUT_MASKS, "losses": {"separate": True}},
        title="U-Net (separate STN)",
        main=True,
    ),
    "monai-unet": Named(
        "MONAI's UNet by segmentation loss alone",
        {
            "network": {"kind": "monai-unet"},
            "latent": WITHOUT_MASKS,
            "losses": {"stn": False, "reconstruction": 0.0},
        },
        title="MONAI's UNet",
        main=True,
    ),
    "cooperative-no-latent": Named(
        "FTN and STN trained together, no latent masks",
        {"latent": WITHOUT_MASKS},
        title="standard (published: joint STN)",
        main=True,
    ),
    "cooperative": Named("FTN and STN trained together on clean and hard examples", main=True),
    "cooperative-unet": Named("cooperative training of the U-Net, masked at every level", {"network": UNET}),
    # The method with the choices of its two papers; the preset sets the length of the training.
    "cooperative-miccai2021": Named(
        "cooperative with the published choices for the masks", {"latent": PUBLISHED_LATENT}, main=True
    ),
    "cooperative-lsm2022": Named(
        "cooperative as the successor paper ran it: no STN, p 0.33, AdamW",
        {
            "latent": {**PUBLISHED_LATENT, "p": 0.33, "rescale": True, "norm": "frozen", "shape": False},
            "losses": {"stn": False, "separate": True},
            "training": {"optimizer": "adamw", "weight_decay": 0.01},
        },
        main=True,
    ),
    **ABLATIONS,
}

# The method that is trained if none is named. A published preset implies its paper's method.
DEFAULT_METHOD = "coopseg"
OF_PRESETS = {"miccai2021": "cooperative", "lsm2022": "cooperative"}

_TABLE = rival_table()
RIVALS = {name: entry for name, entry in _TABLE.items() if not entry.afterwards}
(POST_DAE,) = (name for name, entry in _TABLE.items() if entry.afterwards)
DESCRIPTIONS = {name: method.about for name, method in METHODS.items()} | {
    name: entry.about for name, entry in _TABLE.items()
}

# The rows of the results table, in order.
ROWS = (
    "standard",
    "cooperative-no-latent",
    *_TABLE,
    "cooperative-miccai2021",
    "cooperative-lsm2022",
    "cooperative",
    "monai-unet",
    "unet",
    "cooperative-unet",
    "coopseg-published",
    "coopseg",
)
_MAIN = {name for name, method in METHODS.items() if method.main} | {
    name for name, entry in _TABLE.items() if entry.main
}
MAIN_ROWS = tuple(row for row in ROWS if row in _MAIN)
TITLES = {name: method.title for name, method in METHODS.items() if method.title}


def title_of(row: str) -> str:
    """Returns the title of a row for people to read: from TITLES, else the row's name."""
    base, k = split_row(row)
    return TITLES.get(base, base) + (f", scan statistics {k}" if k else "")


def expand_methods(text: str) -> tuple[str, ...]:
    """Splits "a,b" into rows; group names are expanded: all (the results table), main, ablations."""
    groups = {"all": ROWS, "main": MAIN_ROWS, "ablations": ABLATIONS}
    names = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(dict.fromkeys(row for name in names for row in groups.get(name, (name,))))


def split_row(row: str) -> tuple[str, str]:
    """Splits ROW@K into (ROW, K); others give (row, "").

    ROW@K means the networks of ROW, predicting with scan statistics K, or off.
    """
    base, _, k = row.partition("@")
    return base, k
