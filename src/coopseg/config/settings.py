"""Defines every setting of a run, typed and frozen; an unknown key is refused, never ignored."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from coopseg.config.rivals import RivalSettings
from coopseg.config.section import Section
from coopseg.text import Json


class CaseSettings(Section):
    """Configures how a scan becomes a case (Chen et al. 2021, section 3), in the order of the fields."""

    slice_axis: Literal["auto", 0, 1, 2] = Field(
        "auto",
        description="stored axis along which slices are stacked; auto: one of length 1, else one 20% coarser "
        "than the others, else the last",
    )
    trained_axis: Literal[0, 1, 2] | None = Field(
        None,
        description="set by training: the stored axis of its slices; a scan cut along another is a warning",
    )
    channels: tuple[str, ...] | None = Field(
        None, description="set by training: names of the image's channels in their order"
    )
    percentiles: tuple[float, float] = Field(
        (2.0, 98.0), description="percentiles of the volume to clip intensities at before scaling to [0, 1]"
    )
    window: tuple[float, float] | None = Field(
        None,
        description="intensities of the scan, such as Hounsfield units, to clip at in place of percentiles; "
        "null: percentiles",
    )
    spacing: float | None = Field(
        1.36719, gt=0, description="in-plane millimetres per pixel; null: as stored"
    )
    size: tuple[int, int] = Field((192, 192), description="pad or crop to this around the centre, pixels")
    slice_minmax: bool = Field(True, description="scale each slice to [0, 1] afterwards")

    @property
    def intensities(self) -> Json:
        """Returns the settings by which intensities become [0, 1]."""
        return self.model_dump(include={"percentiles", "window", "slice_minmax"})

    @model_validator(mode="after")
    def _check(self) -> CaseSettings:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles must satisfy 0 <= low < high <= 100, found {self.percentiles}")
        if self.window and not self.window[0] < self.window[1]:
            raise ValueError(f"window must satisfy low < high, found {self.window}")
        if any(side < 16 or side % 16 for side in self.size):
            raise ValueError(
                f"size must be multiples of 16 (the networks halve it four times), found {self.size}"
            )
        return self


OWN_KINDS = ("published", "unet")  # of networks whose codes are known


class NetworkSettings(Section):
    """Configures the five networks (Chen et al. 2021, section 2.1)."""

    kind: str = Field(
        "published",
        description="unet: the segmentation decoder also reads the encoder's features at 1/8 and 1/4 size; "
        "monai-unet: MONAI's UNet; module:callable: your own, called with channels and classes. The last two "
        "take methods without masks and reconstruction",
    )
    width: int = Field(16, ge=1, description="channels at full resolution; 8 × this at the codes")
    channels: int = Field(1, ge=1, description="set by training: image channels of the data set")
    decoupler: bool = Field(True, description="false: the shape code is the image code")
    shared_code: bool = Field(False, description="the image decoder reads the shape code too")
    norm: Literal["batch", "running"] = Field(
        "batch", description="running: normalise by running statistics in training too (fine-tuning)"
    )

    @model_validator(mode="after")
    def _check(self) -> NetworkSettings:
        if self.kind not in (*OWN_KINDS, "monai-unet") and not re.fullmatch(r"[\w.]+:[\w.]+", self.kind):
            raise ValueError(f"kind must be {', '.join(OWN_KINDS)}, monai-unet or module:callable")
        return self


class LatentSettings(Section):
    """Configures latent space data augmentation (Chen et al. 2021, section 2.3)."""

    image: bool = Field(True, description="mask the image code: corrupted images")
    shape: bool = Field(True, description="mask the shape code: corrupted segmentations")
    scheme: Literal["dropout", "channel", "spatial", "mixed"] = Field(
        "mixed",
        description="what is masked: random channels (dropout), channels or positions by score, or one of "
        "these at random (mixed)",
    )
    p: float = Field(0.5, ge=0, le=1, description="the masked fraction u is drawn from U(0, p)")
    annealing: float = Field(
        0.5, ge=0, le=1, description="masked features are multiplied by a factor from U(0, annealing)"
    )
    soft: bool = Field(True, description="false: masked features become 0")
    score: Literal["gradient", "saliency", "magnitude", "score"] = Field(
        "gradient", description="score that ranks channels and positions; see docs/explanation.md"
    )
    ties: Literal["exact", "strict"] = Field("exact", description="strict: the published comparison")
    skip_dead: bool = Field(True, description="pass over channels that are 0 everywhere")
    scope: Literal["sample", "batch"] = Field(
        "sample", description="one scheme and u per sample or per batch"
    )
    published_dropout: bool = Field(
        False, description="dropout sets channels to 0 with probability p, rescales the rest"
    )
    norm: Literal["published", "shared", "no_update", "frozen"] = Field(
        "no_update", description="treatment of BatchNorm in the hard pass; see docs/explanation.md"
    )
    rescale: bool = Field(False, description="scale the corrupted image to [0, 1] per slice")
    share: float = Field(
        1.0, gt=0, le=1, description="share of the batch that is masked: its first, augmented images"
    )


class LossSettings(Section):
    """Configures the loss terms and their weights (Chen et al. 2021, equations 1 to 3)."""

    segmentation: float = Field(1.0, gt=0, description="weight of CE(p, y)")
    dice: float = Field(0.0, ge=0, description="weight of the soft Dice loss of p, all classes alike")
    reconstruction: float = Field(
        0.5, ge=0, description="weight of MSE(x', x); 0: the pass leaves the image decoder out"
    )
    refined: float = Field(1.0, ge=0, description="weight of CE(C(p), y)")
    shape: float = Field(
        1.0, ge=0, description="weight of CE(C(y), y), and of CE(C(p_hat), y) in the hard pass"
    )
    hard: float = Field(1.0, ge=0, description="weight of the whole hard pass")
    temperature: float = Field(2.0, gt=0, description="T in softmax(p / T), which the STN reads")
    input_noise: float = Field(0.05, ge=0, description="standard deviation of the noise on the clean image")
    separate: bool = Field(False, description="block the gradient from the STN into the FTN")
    stn: bool = Field(True, description="false: no slow-thinking network at all")
    stn_every: int = Field(
        1, ge=1, description="the STN trains on every n-th image of a batch; above 1 only with separate"
    )
    damage: bool = Field(
        False, description="the STN learns from label maps damaged as for post-dae, not from exact ones"
    )


class AugmentationSettings(Section):
    """Configures image augmentation on the device, of half of each batch (with plain_half) or all of it."""

    enabled: bool = Field(True, description="false: slices as they are")
    pad: float = Field(
        7 / 6, ge=1, description="size of the canvas for shifts and elastic fields, relative to the crop"
    )
    flip: float = Field(0.2, ge=0, le=1, description="probability of flipping, for each in-plane axis")
    intensity: float = Field(0.5, ge=0, le=1, description="probability of changed contrast and brightness")
    contrast: tuple[float, float] = Field((0.8, 1.2), description="factor on intensities")
    brightness: float = Field(0.1, description="greatest amount added or subtracted")
    shift: float = Field(0.1, ge=0, description="greatest shift, as a fraction of the canvas")
    rotation: float = Field(15.0, ge=0, description="greatest rotation either way, degrees")
    zoom: tuple[float, float] = Field(
        (0.8, 1.1), description="factor from output to input, for each axis; below 1 the heart grows"
    )
    rotate45: float = Field(
        1.0, ge=0, le=1, description="probability of a further turn by a multiple of 45 degrees"
    )
    elastic: float = Field(0.5, ge=0, le=1, description="probability of an elastic deformation")
    elastic_sigma: tuple[float, float] = Field(
        (0.1 * 0.75, 0.2 * 0.75), description="smoothness of the elastic field, as a fraction of the canvas"
    )
    elastic_alpha: tuple[float, float] = Field(
        (1.5, 2.0), description="strength of the elastic field, as a fraction of the canvas"
    )
    random_crop: bool = Field(False, description="take the crop anywhere in the canvas, not from its middle")
    random_networks: float = Field(
        0.0, ge=0, le=1, description="share of the augmented images that pass through a random network"
    )

    @model_validator(mode="after")
    def _check(self) -> AugmentationSettings:
        self.check_ranges("contrast", "zoom", "elastic_sigma", "elastic_alpha", positive=True)
        return self


class TrainingSettings(Section):
    """Configures the training loop: optimiser, schedule, validations."""

    batch_size: int = Field(20, ge=2, description="images per step; with plain_half the second half is plain")
    plain_half: bool = Field(True, description="half augmented, half the same slices without augmentation")
    epochs: int | None = Field(600, ge=1, description="passes over the training slices; or give steps")
    steps: int | None = Field(None, ge=1, description="optimiser steps; takes precedence over epochs")
    optimizer: Literal["adam", "adamw"] = Field("adam", description="one optimiser for all five networks")
    learning_rate: float = Field(
        1e-4, gt=0, description="learning rate; its maximum with one_cycle and cool_down"
    )
    weight_decay: float = Field(0.0, ge=0, description="weight decay of the optimiser")
    schedule: Literal["constant", "one_cycle", "cool_down"] = Field(
        "constant",
        description="one_cycle: the learning rate rises, then falls to nothing as a cosine; cool_down: it "
        "rises, stays, then falls to nothing in a straight line",
    )
    warmup: float = Field(0.15, ge=0, le=1, description="share of the steps in which the learning rate rises")
    cool_down: float = Field(
        0.3, ge=0, le=1, description="share of the steps in which the learning rate falls with cool_down"
    )
    cooperate_after: float = Field(
        0.0, ge=0, le=1, description="share of the steps of standard training before the networks cooperate"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the averaged weights that are validated and saved"
    )
    validations: int = Field(20, ge=1, description="how often validation patients are tested during training")

    @model_validator(mode="after")
    def _check(self) -> TrainingSettings:
        if self.steps is None and self.epochs is None:
            raise ValueError("one of training.steps and training.epochs must be given")
        if self.schedule == "cool_down" and self.warmup + self.cool_down > 1:
            raise ValueError(
                f"warmup and cool_down must add up to 1 at most, found {self.warmup} and {self.cool_down}"
            )
        if self.plain_half and self.batch_size % 2:
            raise ValueError(f"batch_size must be even with plain_half, found {self.batch_size}")
        return self


class PredictionSettings(Section):
    """Configures how trained networks predict, in validation, predict and evaluate."""

    scan_statistics: float | None = Field(
        None,
        ge=0,
        strict=True,  # YAML reads "off" as false, which would count as 0
        description="k: for a scan of n slices, n / (n + k) of the first layers' statistics come from the "
        "scan itself; null: none",
    )
    head: Literal["FTN", "FTN+STN"] = Field(
        "FTN+STN", description="head whose label maps are written where none is named, if there is an STN"
    )


class Settings(Section):
    """Holds all settings. `method` and `preset` are names for the record; the sections say what happens."""

    preset: str = "default"
    method: str = "cooperative"
    cases: CaseSettings = CaseSettings()
    network: NetworkSettings = NetworkSettings()
    latent: LatentSettings = LatentSettings()
    losses: LossSettings = LossSettings()
    rivals: RivalSettings = RivalSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    training: TrainingSettings = TrainingSettings()
    prediction: PredictionSettings = PredictionSettings()
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["32", "bf16"] = "32"

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if self.latent.image and not self.losses.reconstruction:
            raise ValueError("image masks need losses.reconstruction above 0: they rank by its gradient")
        if self.network.kind not in OWN_KINDS:
            self._check_other()
        if "maxstyle" in self.rivals.use and not self.losses.reconstruction:
            raise ValueError("maxstyle needs losses.reconstruction above 0: it styles what D_i decodes")
        if self.losses.stn_every > 1 and not self.losses.separate:
            raise ValueError(
                f"losses.stn_every is {self.losses.stn_every}, but the STN's gradient reaches the FTN: set "
                "losses.separate=true or losses.stn_every=1"
            )
        return self

    def _check_other(self) -> None:
        """Raises ValueError for what networks without known codes cannot be trained or used with."""
        needed = {
            "latent.image=false": not self.latent.image,
            "latent.shape=false": not self.latent.shape,
            "losses.reconstruction=0": not self.losses.reconstruction,
            "prediction.scan_statistics=null": self.prediction.scan_statistics is None,
            "network.norm=batch": self.network.norm == "batch",
        }
        if missing := [change for change, done in needed.items() if not done]:
            raise ValueError(
                f"network.kind={self.network.kind} has no codes to mask or decode, and norms of its own: set "
                f"{', '.join(missing)}"
            )
