"""Names presets, which say how much is trained and on what, and methods, which say with which losses.

Both override the defaults in settings.py. The preset is applied first, then the method, then the user's own
settings.
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

ON_CPU_CASES: dict[str, Any] = {"spacing": 1.5, "size": (128, 128)}
ON_CPU: dict[str, Any] = {"batch_size": 8, "learning_rate": 2e-3, "schedule": "one_cycle"}

PRESETS: dict[str, Overrides] = {
    "default": {},
    # Chen et al. 2021 with the choices of the published code.
    "miccai2021": {"latent": PUBLISHED_LATENT},
    # How the successor paper (Chen et al. 2022, MaxStyle) ran this method: FTN alone, "LSM".
    "lsm2022": {
        "latent": {**PUBLISHED_LATENT, "p": 0.33, "rescale": True, "norm": "frozen"},
        "losses": {"stn": False, "separate": True},
        "augmentation": {"shift": 0.0, "random_crop": True},
        "training": {"optimizer": "adamw", "weight_decay": 0.01, "epochs": 1500},
    },
    # Chosen on validation, the same for every method: see docs/research.md.
    "cpu": {
        "cases": ON_CPU_CASES,
        "losses": {"dice": 1.0},
        "training": {**ON_CPU, "plain_half": False, "ema": 0.995, "steps": 3000, "validations": 10},
    },
    # For demos and tests: long enough for networks to begin to learn.
    "quick": {"cases": ON_CPU_CASES, "training": {**ON_CPU, "steps": 600, "validations": 3}},
}

WITHOUT_MASKS: dict[str, Any] = {"image": False, "shape": False}

METHODS: dict[str, Overrides] = {
    # Chosen on validation: see docs/research.md.
    "coopseg": {
        "latent": WITHOUT_MASKS,
        "losses": {"separate": True, "stn_every": 2, "damage": True, "reconstruction": 0.0},
        "augmentation": {"random_networks": 0.25},
        "prediction": {"scan_statistics": 1.0},
    },
    "standard": {"latent": WITHOUT_MASKS, "losses": {"separate": True}},
    "cooperative-no-latent": {"latent": WITHOUT_MASKS},
    "cooperative": {},
    # The method with the choices of its two papers; the preset sets the length of the training.
    "cooperative-miccai2021": {"latent": PUBLISHED_LATENT},
    "cooperative-lsm2022": {
        "latent": {**PUBLISHED_LATENT, "p": 0.33, "rescale": True, "norm": "frozen", "shape": False},
        "losses": {"stn": False, "separate": True},
        "training": {"optimizer": "adamw", "weight_decay": 0.01},
    },
    # Ablations of cooperative training; each changes one choice.
    "dropout-masks": {"latent": {"scheme": "dropout"}},
    "channel-masks": {"latent": {"scheme": "channel"}},
    "spatial-masks": {"latent": {"scheme": "spatial"}},
    "image-masks": {"latent": {"shape": False}},
    "shape-masks": {"latent": {"image": False}},
    "score-saliency": {"latent": {"score": "saliency"}},
    "score-magnitude": {"latent": {"score": "magnitude"}},
    "score-score": {"latent": {"score": "score"}},
    "per-batch": {"latent": {"scope": "batch"}},
    "shared-code": {"network": {"shared_code": True}},
    "no-decoupler": {"network": {"decoupler": False}},
    "separate": {"losses": {"separate": True}},
    "norm-published": {"latent": {"norm": "published"}},
    "norm-shared": {"latent": {"norm": "shared"}},
    "norm-frozen": {"latent": {"norm": "frozen"}},
    "no-input-noise": {"losses": {"input_noise": 0.0}},
    "temperature-1": {"losses": {"temperature": 1.0}},
    "half-way": {"training": {"cooperate_after": 0.5}},
}
ABLATIONS = tuple(METHODS)[6:]

# The method that is trained if none is named. A published preset implies its paper's method.
DEFAULT_METHOD = "coopseg"
OF_PRESETS = {"miccai2021": "cooperative", "lsm2022": "cooperative"}

# Import paths of the rivals of this package, so that the command line can list them without loading torch.
RIVALS = {
    "rand-mwm": "coopseg.rivals.rand_mwm:RandMwm",
    "randconv": "coopseg.rivals.randconv:RandConv",
    "randconv-successor": "coopseg.rivals.randconv:RandConvSuccessor",
    "adv-noise": "coopseg.rivals.adv_noise:AdvNoise",
    "adv-bias": "coopseg.rivals.adv_bias:AdvBias",
    "rsc": "coopseg.rivals.rsc:Rsc",
    "mixstyle": "coopseg.rivals.mixstyle:MixStyle",
    "dsu": "coopseg.rivals.dsu:Dsu",
    "maxstyle": "coopseg.rivals.maxstyle:MaxStyle",
    "bigaug": "coopseg.rivals.bigaug:BigAug",
    "gin": "coopseg.rivals.gin:Gin",
    "gin-ipa": "coopseg.rivals.gin_ipa:GinIpa",
    "afa-mixup": "coopseg.rivals.afa_mixup:AfaMixup",
    "slaug": "coopseg.rivals.slaug:Slaug",
    "heavy": "coopseg.rivals.heavy:Heavy",
}
# The method that a rival adds its terms to if --method names only the rival: none was published with an STN.
UNDER_RIVALS = "standard"

POST_DAE = "post-dae"  # is trained after a finished standard training; see coopseg.rivals.post_dae

# The rows of the results table, in order.
ROWS = (
    "standard",
    "cooperative-no-latent",
    "rand-mwm",
    "randconv",
    "randconv-successor",
    "adv-noise",
    "adv-bias",
    POST_DAE,
    "rsc",
    "mixstyle",
    "dsu",
    "maxstyle",
    "bigaug",
    "gin",
    "gin-ipa",
    "afa-mixup",
    "slaug",
    "heavy",
    "cooperative-miccai2021",
    "cooperative-lsm2022",
    "cooperative",
    "coopseg",
)
MAIN_ROWS = (
    "standard",
    "cooperative-no-latent",
    "randconv",
    "maxstyle",
    "bigaug",
    "cooperative-miccai2021",
    "cooperative-lsm2022",
    "cooperative",
    "coopseg",
)

# Titles for rows whose --methods name is not clear enough: there are two standard trainings.
TITLES = {
    "standard": "standard (separate STN)",
    "cooperative-no-latent": "standard (published: joint STN)",
}

DESCRIPTIONS: dict[str, str] = {
    "default": "the published schedule with this project's own choices for the masks",
    "miccai2021": "Chen et al. 2021 as published: 600 epochs, batch 20, 192 x 192",
    "lsm2022": "as the successor paper ran it: no STN, p 0.33, AdamW, 1500 epochs",
    "cpu": "a quarter of an hour on two CPU cores: 128 x 128, batch 8, 3000 steps",
    "quick": "128 x 128, batch 8, 600 steps, CE, half of a batch plain: for demos and tests",
    "coopseg": "the default: no reconstruction, random networks, scan statistics, an STN on damaged labels",
    "standard": "FTN alone; an STN beside it on detached predictions",
    "cooperative-no-latent": "FTN and STN trained together, no latent masks",
    "cooperative": "FTN and STN trained together on clean and hard examples",
    "cooperative-miccai2021": "cooperative with the published choices for the masks",
    "cooperative-lsm2022": "cooperative as the successor paper ran it: no STN, p 0.33, AdamW",
    "dropout-masks": "random channels only, no targeted masks",
    "channel-masks": "channels by score only",
    "spatial-masks": "positions by score only",
    "image-masks": "masks on the image code only",
    "shape-masks": "masks on the shape code only",
    "score-saliency": "masks ranked by -g·z",
    "score-magnitude": "masks ranked by |g|",
    "score-score": "masks ranked by the gradient of output × target",
    "per-batch": "one scheme and one masked fraction a batch",
    "shared-code": "both decoders read the shape code",
    "no-decoupler": "image code and shape code are one",
    "separate": "no gradient from the STN into the FTN",
    "norm-published": "BatchNorm in the hard pass as published",
    "norm-shared": "BatchNorm in the hard pass as in the standard pass",
    "norm-frozen": "BatchNorm in the hard pass by batch statistics, its weights without gradient",
    "no-input-noise": "no noise on the clean image",
    "temperature-1": "the STN reads softmax(p), not softmax(p / 2)",
    "half-way": "standard training for the first half, then cooperative",
    "rand-mwm": "random multi-window masking (Zhou et al. 2019)",
    "randconv": "random convolution as its authors wrote it (Xu et al. 2021)",
    "randconv-successor": "random convolution as MaxStyle was compared with, without CE (Chen et al. 2022)",
    "adv-noise": "adversarial noise (Miyato et al. 2018)",
    "adv-bias": "adversarial bias field (Chen et al. 2020)",
    POST_DAE: "a denoising autoencoder trained by itself, after standard training (Larrazabal et al. 2020)",
    "rsc": "representation self-challenging (Huang et al. 2020)",
    "mixstyle": "mixed feature statistics (Zhou et al. 2021)",
    "dsu": "feature statistics with uncertainty (Li et al. 2022)",
    "maxstyle": "adversarially composed styles (Chen et al. 2022)",
    "bigaug": "strong image augmentation (Zhang et al. 2020)",
    "gin": "random networks on intensities (Ouyang et al. 2022)",
    "gin-ipa": "two random networks, blended by a smooth map (Ouyang et al. 2022)",
    "afa-mixup": "planar waves, kin of the RandSpike test, and MixUp (Vaish et al. 2025)",
    "slaug": "intensity curves by class, fused by saliency (Su et al. 2023)",
    "heavy": "heavy image augmentation (nnU-Net's DA5)",
}


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
