"""Defines the rivals of the results table: their settings, and one table of what is known of each.

Defaults are the published values, except where a field or the rival's module says otherwise.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from coopseg.config.section import RivalEntry, Section
from coopseg.text import Json

# How BatchNorm behaves in a rival's passes: as LatentSettings.norm says, or `recorded`, which updates running
# statistics but gives weights and biases no gradient. See docs/explanation.md.
NormRule = Literal["shared", "no_update", "frozen", "recorded", "published"]


class RivalSection(Section):
    """Holds the settings of one rival; `entry` says what it is."""

    entry: ClassVar[RivalEntry]


class RandMwmSettings(RivalSection):
    """Configures random multi-window masking (Zhou et al. 2019, Models Genesis)."""

    entry = RivalEntry("random multi-window masking", "Zhou et al. 2019", "coopseg.rivals.rand_mwm:RandMwm")

    windows: int = Field(5, ge=1, description="maximum number of windows per image")
    further: float = Field(0.95, ge=0, le=1, description="probability of one more window after each window")
    p: float = Field(0.5, ge=0, le=1, description="probability that an image is masked at all")
    side: tuple[float, float] = Field(
        (1 / 6, 1 / 3), description="side of a window for in-painting, as a fraction of the image's side"
    )
    out_side: tuple[float, float] = Field(
        (0.4, 0.6), description="side of a window for out-painting, as a fraction of the image's side"
    )
    border: int = Field(3, ge=0, description="minimum distance of a window from the border, pixels")
    out_painting: float = Field(0.5, ge=0, le=1, description="probability of out-painting, else in-painting")

    @model_validator(mode="after")
    def _check(self) -> RandMwmSettings:
        self.check_ranges("side", "out_side")
        return self


class RandConvSettings(RivalSection):
    """Configures random convolution as its authors wrote it (Xu et al. 2021)."""

    entry = RivalEntry(
        "random convolution as its authors wrote it",
        "Xu et al. 2021",
        "coopseg.rivals.randconv:RandConv",
        main=True,
    )

    kernels: tuple[int, ...] = Field((1, 3, 5, 7), description="odd kernel sizes to draw from")
    copies: int = Field(3, ge=2, description="number of copies of a batch, each with its own kernel")
    consistency: float = Field(
        1.0,
        ge=0,
        description="weight of the divergence between the copies; published: 10, to be chosen on validation",
    )
    mix: bool = Field(True, description="mix the result with the image in a random proportion")

    @model_validator(mode="after")
    def _check(self) -> RandConvSettings:
        if not self.kernels or any(size < 1 or size % 2 == 0 for size in self.kernels):
            raise ValueError(f"kernels must be odd sizes, at least one, found {self.kernels}")
        return self


class RandConvSuccessorSettings(RandConvSettings):
    """Configures random convolution in the form that MaxStyle was compared with (Chen et al. 2022)."""

    entry = RivalEntry(
        "random convolution as MaxStyle was compared with, without CE",
        "Chen et al. 2022",
        "coopseg.rivals.randconv:RandConvSuccessor",
    )

    consistency: float = Field(10.0, ge=0, description="weight of the divergence between the copies")


class AdvNoiseSettings(RivalSection):
    """Configures adversarial noise: virtual adversarial training (Miyato et al. 2018)."""

    entry = RivalEntry("adversarial noise", "Miyato et al. 2018", "coopseg.rivals.adversarial:AdvNoise")

    epsilon: float = Field(0.1, gt=0, description="L2 norm of an image's noise")
    relative: bool = Field(False, description="epsilon is a fraction of the image's own norm")
    steps: int = Field(1, ge=1, description="steps of the power iteration")
    probe: float = Field(
        0.01, gt=0, description="L2 norm of the probe for each image; the published 1e-6 is lost in float32"
    )
    consistency: float = Field(1.0, ge=0, description="weight of the divergence from the clean prediction")


class AdvBiasSettings(RivalSection):
    """Configures the adversarial bias field (Chen et al. 2020)."""

    entry = RivalEntry("adversarial bias field", "Chen et al. 2020", "coopseg.rivals.adversarial:AdvBias")

    epsilon: float = Field(0.4, gt=0, lt=1, description="the field stays in 1 ± epsilon")
    spacing: float = Field(
        0.5, gt=0, le=1, description="spacing of the control points, as a fraction of the image's side"
    )
    steps: int = Field(1, ge=1, description="steps of gradient ascent")
    length: float = Field(1.0, gt=0, description="length of a step along the normalised gradient")
    contour: float = Field(0.5, ge=0, description="weight of the contour distance beside the divergence")
    consistency: float = Field(1.0, ge=0, description="weight of the distance from the clean prediction")


class RscSettings(RivalSection):
    """Configures representation self-challenging (Huang et al. 2020)."""

    entry = RivalEntry("representation self-challenging", "Huang et al. 2020", "coopseg.rivals.rsc:Rsc")

    fraction: float = Field(1 / 3, gt=0, lt=1, description="fraction of channels or positions set to 0")


class MixStyleSettings(RivalSection):
    """Configures mixed feature statistics (Zhou et al. 2021)."""

    entry = RivalEntry("mixed feature statistics", "Zhou et al. 2021", "coopseg.rivals.styles:MixStyle")

    p: float = Field(0.5, ge=0, le=1, description="probability that a layer is styled")
    alpha: float = Field(0.1, gt=0, description="the mixing factor is drawn from Beta(alpha, alpha)")


class DsuSettings(RivalSection):
    """Configures feature statistics with uncertainty (Li et al. 2022)."""

    entry = RivalEntry("feature statistics with uncertainty", "Li et al. 2022", "coopseg.rivals.styles:Dsu")

    p: float = Field(0.5, ge=0, le=1, description="probability that a layer is styled")


class MaxStyleSettings(RivalSection):
    """Configures adversarially composed styles (Chen et al. 2022)."""

    entry = RivalEntry(
        "adversarially composed styles", "Chen et al. 2022", "coopseg.rivals.maxstyle:MaxStyle", main=True
    )

    p: float = Field(0.5, ge=0, le=1, description="probability that a layer is styled")
    steps: int = Field(5, ge=1, description="steps of Adam that raise the loss")
    learning_rate: float = Field(0.1, gt=0, description="learning rate of Adam")


class PostDaeSettings(RivalSection):
    """Configures Post-DAE (Larrazabal et al. 2020): a denoising autoencoder on segmentations, not a rival."""

    entry = RivalEntry(
        "a denoising autoencoder trained by itself, after standard training",
        "Larrazabal et al. 2020",
        afterwards=True,
    )

    p: float = Field(0.5, ge=0, le=1, description="probability of each of the three kinds of damage")
    reshape: int = Field(4, ge=1, description="a structure grows or shrinks by at most this, pixels")
    shapes: int = Field(4, ge=1, description="maximum number of holes and blobs per map")
    radius: tuple[float, float] = Field((1.0, 10.0), description="half axes of holes and blobs, pixels")
    swaps: tuple[float, float] = Field(
        (0.1, 0.5), description="share of pixels near a border that take another's label"
    )
    swap_reach: int = Field(
        2, ge=1, description="greatest distance to a border, and to the other pixel along an axis, pixels"
    )
    validate_every: int = Field(50, ge=1, description="steps between two validations")
    patience: int = Field(10, ge=1, description="validations without a new best after which training ends")
    lower_after: int = Field(
        3, ge=1, description="validations without a new best that lower the learning rate"
    )
    lower_by: float = Field(0.3, gt=0, le=1, description="factor on the learning rate when it is lowered")
    longest: float = Field(
        5.0, gt=0, description="maximum number of steps, as a multiple of the standard training's"
    )

    @model_validator(mode="after")
    def _check(self) -> PostDaeSettings:
        self.check_ranges("radius", "swaps")
        return self


class BigAugSettings(RivalSection):
    """Configures strong image augmentation (Zhang et al. 2020)."""

    entry = RivalEntry(
        "strong image augmentation", "Zhang et al. 2020", "coopseg.rivals.bigaug:BigAug", main=True
    )

    p: float = Field(0.5, ge=0, le=1, description="probability of each of the nine operations")
    sharpen: tuple[float, float] = Field((10.0, 30.0), description="strength of the unsharp mask")
    blur: tuple[float, float] = Field((0.25, 1.5), description="standard deviation of the blur, pixels")
    noise: tuple[float, float] = Field(
        (0.01, 0.1), description="standard deviation of the noise, as a fraction of the image's range"
    )
    brightness: float = Field(0.1, ge=0, description="greatest amount added or subtracted")
    gamma: tuple[float, float] = Field((0.5, 4.5), description="exponent of the contrast")
    perturbation: float = Field(0.1, ge=0, description="random factor 1 ± this and shift ± this")
    rotation: float = Field(20.0, ge=0, description="greatest rotation either way, degrees")
    scale: tuple[float, float] = Field((0.4, 1.6), description="factor; above 1 enlarges")
    deformation: tuple[float, float] = Field(
        (10.0, 13.0), description="smoothness of the deformation, pixels"
    )
    deformation_strength: tuple[float, float] = Field(
        (0.0, 1000.0), description="strength before smoothing in a volume; 1000 moves a pixel by 2 or so"
    )

    @model_validator(mode="after")
    def _check(self) -> BigAugSettings:
        self.check_ranges("sharpen", "blur", "noise", "gamma", "deformation_strength")
        self.check_ranges("scale", "deformation", positive=True)
        return self


class GinSettings(RivalSection):
    """Configures global intensity non-linear augmentation (Ouyang et al. 2022)."""

    entry = RivalEntry("random networks on intensities", "Ouyang et al. 2022", "coopseg.rivals.gin:Gin")

    layers: int = Field(4, ge=1, description="convolutions of a random network")
    channels: int = Field(2, ge=1, description="channels between the convolutions")
    dice: float = Field(1.0, ge=0, description="weight of the Dice loss of the copies")
    consistency: float = Field(
        10.0, ge=0, description="weight of the divergence between the copies, a mean over pixels and classes"
    )


class GinIpaSettings(GinSettings):
    """Configures interventional pseudo-correlation augmentation: blended GIN copies (Ouyang et al. 2022)."""

    entry = RivalEntry(
        "two random networks, blended by a smooth map", "Ouyang et al. 2022", "coopseg.rivals.gin:GinIpa"
    )

    spacing: float = Field(
        0.25, gt=0, le=1, description="spacing of the map's control points, as a fraction of the image's side"
    )


class AfaSettings(RivalSection):
    """Configures auxiliary Fourier-basis augmentation and MixUp (Vaish et al. 2024, 2025)."""

    entry = RivalEntry(
        "planar waves, kin of the RandSpike test, and MixUp",
        "Vaish et al. 2025",
        "coopseg.rivals.afa_mixup:AfaMixup",
    )

    strength: float = Field(5.0, gt=0, description="mean strength of a wave; 5 is an amplitude of 0.22")
    alpha: float = Field(0.2, gt=0, description="the mixing share is drawn from Beta(alpha, alpha)")


class SlaugSettings(RivalSection):
    """Configures location-scale augmentation, fused by saliency (Su et al. 2023)."""

    entry = RivalEntry(
        "intensity curves by class, fused by saliency", "Su et al. 2023", "coopseg.rivals.slaug:Slaug"
    )

    warmup: float = Field(
        0.1, ge=0, le=1, description="share of the steps before training also uses the fused image"
    )
    grid: int = Field(18, ge=1, description="cells along each side of the grid on which saliency is averaged")
    dice: float = Field(1.0, ge=0, description="weight of Dice in its passes; losses.dice counts if larger")


class HeavySettings(RivalSection):
    """Configures heavy augmentation (nnU-Net's DA5). Probabilities are those for a single-channel image."""

    entry = RivalEntry("heavy image augmentation", "nnU-Net's DA5", "coopseg.rivals.heavy:Heavy")

    p_rotation: float = Field(0.2, ge=0, le=1, description="probability of rotation")
    rotation: float = Field(180.0, ge=0, description="greatest rotation either way, degrees")
    p_scale: float = Field(0.2, ge=0, le=1, description="probability of scaling")
    scale: tuple[float, float] = Field(
        (0.7, 1.43), description="factor from output to input, for each axis; below 1 the heart grows"
    )
    p_mirror: float = Field(0.5, ge=0, le=1, description="probability of mirroring, for each in-plane axis")
    p_quarter_turn: float = Field(
        0.375, ge=0, le=1, description="probability of a quarter turn; with mirroring also a transposition"
    )
    p_elastic: float = Field(
        0.2, ge=0, le=1, description="probability of elastic deformation; DA5 leaves it switched off"
    )
    elastic: tuple[float, float] = Field((9.0, 13.0), description="smoothness of the deformation, pixels")
    elastic_strength: tuple[float, float] = Field(
        (0.0, 200.0), description="strength of the deformation before smoothing"
    )
    p_median: float = Field(0.05, ge=0, le=1, description="probability of the median filter")
    median: tuple[int, int] = Field((2, 7), description="side of the median filter, pixels")
    p_blur: float = Field(0.05, ge=0, le=1, description="probability of blur")
    blur: tuple[float, float] = Field((0.3, 1.5), description="standard deviation of the blur, pixels")
    p_noise: float = Field(0.1, ge=0, le=1, description="probability of noise")
    noise: tuple[float, float] = Field(
        (0.0, 0.1), description="standard deviation of the noise, in units of the slice's own"
    )
    p_brightness: float = Field(0.05, ge=0, le=1, description="probability of a brightness shift")
    brightness: float = Field(
        0.5, ge=0, description="standard deviation of the shift, in units of the slice's own"
    )
    p_contrast: float = Field(0.1, ge=0, le=1, description="probability of a contrast change")
    contrast: tuple[float, float] = Field(
        (0.5, 2.0), description="factor on the distance from the slice's mean"
    )
    p_low_resolution: float = Field(0.075, ge=0, le=1, description="probability of low resolution")
    low_resolution: tuple[float, float] = Field(
        (0.25, 1.0), description="share of the pixels kept along a side"
    )
    p_gamma: float = Field(0.1, ge=0, le=1, description="probability of gamma")
    p_inverted_gamma: float = Field(0.1, ge=0, le=1, description="probability of gamma on the negative")
    gamma: tuple[float, float] = Field((0.7, 1.5), description="exponent of both gammas")
    p_blank: float = Field(0.2, ge=0, le=1, description="probability of blank windows")
    blanks: int = Field(5, ge=1, description="maximum number of blank windows per image")
    blank: tuple[float, float] = Field(
        (0.1, 1 / 3), description="side of a blank window, as a fraction of the image's side"
    )
    p_shade: float = Field(0.15, ge=0, le=1, description="probability of a brightness gradient")
    shade: tuple[float, float] = Field(
        (1.0, 5.0), description="height or depth of the gradient, in the slice's standard deviation"
    )
    p_local_gamma: float = Field(0.15, ge=0, le=1, description="probability of a local gamma")
    local_gamma_below: tuple[float, float] = Field(
        (0.01, 0.8), description="exponent at the spot's centre, one of two equally likely ranges"
    )
    local_gamma_above: tuple[float, float] = Field(
        (1.5, 4.0), description="exponent at the spot's centre, the other of the two ranges"
    )
    p_sharpen: float = Field(0.1, ge=0, le=1, description="probability of sharpening")
    sharpen: tuple[float, float] = Field((0.1, 1.0), description="share of the Laplacian added")

    @model_validator(mode="after")
    def _check(self) -> HeavySettings:
        self.check_ranges("elastic_strength", "blur", "noise", "blank", "shade", "sharpen")
        self.check_ranges("scale", "elastic", "median", "contrast", "low_resolution", "gamma", positive=True)
        self.check_ranges("local_gamma_below", "local_gamma_above", positive=True)
        for name in ("scale", "contrast", "gamma"):
            low, high = getattr(self, name)
            if not low <= 1 <= high:
                raise ValueError(f"{name} must have 1 in its range, found {(low, high)}")
        if self.low_resolution[1] > 1 or self.blank[1] > 1:
            raise ValueError("low_resolution and blank are shares of a side, at most 1")
        return self


# The list of rivals, in the order of the results table. From these fields and the classes' entries follow the
# names that --method takes, the rows, `coopseg info` and the reference.
class RivalSettings(Section):
    """Names the rivals that add their terms to a step, and configures each."""

    use: tuple[str, ...] = Field(
        (), description="names of rivals, or module:class for your own; set by --method"
    )
    own: dict[str, Json] = Field(
        {}, description="settings of your own methods: rivals.NAME.KEY=VALUE sets one of the method NAME"
    )
    rand_mwm: RandMwmSettings = RandMwmSettings()
    randconv: RandConvSettings = RandConvSettings()
    randconv_successor: RandConvSuccessorSettings = RandConvSuccessorSettings()
    adv_noise: AdvNoiseSettings = AdvNoiseSettings()
    adv_bias: AdvBiasSettings = AdvBiasSettings()
    post_dae: PostDaeSettings = PostDaeSettings()
    rsc: RscSettings = RscSettings()
    mixstyle: MixStyleSettings = MixStyleSettings()
    dsu: DsuSettings = DsuSettings()
    maxstyle: MaxStyleSettings = MaxStyleSettings()
    bigaug: BigAugSettings = BigAugSettings()
    gin: GinSettings = GinSettings()
    gin_ipa: GinIpaSettings = GinIpaSettings()
    afa_mixup: AfaSettings = AfaSettings()
    slaug: SlaugSettings = SlaugSettings()
    heavy: HeavySettings = HeavySettings()

    def of(self, name: str) -> RivalSection:
        """Returns the settings of a rival of this package, by the name that --method takes."""
        section: RivalSection = getattr(self, name.replace("-", "_"))
        return section


def rival_table() -> dict[str, RivalEntry]:
    """Returns the entries of the rivals by the names that --method takes, in the order of the table."""
    fields = RivalSettings.model_fields.items()
    return {
        name.replace("_", "-"): field.default.entry
        for name, field in fields
        if isinstance(field.default, RivalSection)
    }
