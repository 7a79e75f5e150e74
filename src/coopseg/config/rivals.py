"""Settings of the rivals in the results table, each with its published values as defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from coopseg.config.section import Section

# What the passes of a rival do to BatchNorm: the choices of LatentSettings.norm, and `recorded`, in which
# running statistics are updated while weights and biases take no gradient. See docs/explanation.md.
NormRule = Literal["shared", "no_update", "frozen", "recorded", "published"]


class RandMwmSettings(Section):
    """Random multi-window masking (Zhou et al. 2019, Models Genesis)."""

    windows: int = Field(5, ge=1, description="most windows an image")
    further: float = Field(0.95, ge=0, le=1, description="probability of another window after each")
    p: float = Field(0.5, ge=0, le=1, description="probability that an image is masked at all")
    side: tuple[float, float] = Field(
        (1 / 6, 1 / 3), description="of a window when in-painting, of the image's side"
    )
    out_side: tuple[float, float] = Field(
        (0.4, 0.6), description="of a window when out-painting, of the image's side"
    )
    border: int = Field(3, ge=0, description="least distance to the border, pixels")
    out_painting: float = Field(0.5, ge=0, le=1, description="probability of out- instead of in-painting")

    @model_validator(mode="after")
    def _check(self) -> RandMwmSettings:
        self.check_ranges("side", "out_side")
        return self


class RandConvSettings(Section):
    """Random convolution as its authors wrote it (Xu et al. 2021)."""

    kernels: tuple[int, ...] = Field((1, 3, 5, 7), description="sizes to draw from, odd")
    copies: int = Field(3, ge=2, description="of a batch, one kernel each")
    consistency: float = Field(
        1.0,
        ge=0,
        description="weight of the divergence between the copies; published 10, to be chosen on validation",
    )
    mix: bool = Field(True, description="mix the result with the image, in random parts")

    @model_validator(mode="after")
    def _check(self) -> RandConvSettings:
        if not self.kernels or any(size < 1 or size % 2 == 0 for size in self.kernels):
            raise ValueError(f"kernels must be odd sizes, at least one, found {self.kernels}")
        return self


class RandConvSuccessorSettings(RandConvSettings):
    """Random convolution as MaxStyle was compared with (Chen et al. 2022)."""

    consistency: float = Field(10.0, ge=0, description="weight of the divergence between the copies")


class AdvNoiseSettings(Section):
    """Adversarial noise: virtual adversarial training (Miyato et al. 2018)."""

    epsilon: float = Field(0.1, gt=0, description="L2 norm of the noise of an image")
    relative: bool = Field(False, description="epsilon is a fraction of the image's own norm")
    steps: int = Field(1, ge=1, description="of the power iteration")
    probe: float = Field(
        0.01, gt=0, description="L2 norm of its steps, of an image; the published 1e-6 is lost in float32"
    )
    consistency: float = Field(1.0, ge=0, description="weight of the divergence from the clean prediction")


class AdvBiasSettings(Section):
    """Adversarial bias field (Chen et al. 2020)."""

    epsilon: float = Field(0.4, gt=0, lt=1, description="the field stays in 1 ± epsilon")
    spacing: float = Field(0.5, gt=0, le=1, description="of the control points, of the image's side")
    steps: int = Field(1, ge=1, description="of gradient ascent")
    length: float = Field(1.0, gt=0, description="of a step, along the normalised gradient")
    contour: float = Field(0.5, ge=0, description="weight of the contour distance beside the divergence")
    consistency: float = Field(1.0, ge=0, description="weight of the distance from the clean prediction")


class RscSettings(Section):
    """Representation self-challenging (Huang et al. 2020)."""

    fraction: float = Field(1 / 3, gt=0, lt=1, description="of channels or positions set to 0")


class MixStyleSettings(Section):
    """Mixed feature statistics (Zhou et al. 2021)."""

    p: float = Field(0.5, ge=0, le=1, description="probability of a layer")
    alpha: float = Field(0.1, gt=0, description="the mixing factor is drawn from Beta(alpha, alpha)")


class DsuSettings(Section):
    """Feature statistics with uncertainty (Li et al. 2022)."""

    p: float = Field(0.5, ge=0, le=1, description="probability of a layer")


class MaxStyleSettings(Section):
    """Adversarially composed styles (Chen et al. 2022)."""

    p: float = Field(0.5, ge=0, le=1, description="probability of a layer")
    steps: int = Field(5, ge=1, description="of Adam that raise the loss")
    learning_rate: float = Field(0.1, gt=0, description="of those steps")


class PostDaeSettings(Section):
    """A denoising autoencoder on segmentations (Larrazabal et al. 2020); no rival, see rivals/post_dae.py."""

    p: float = Field(0.5, ge=0, le=1, description="probability of each of the three kinds of damage")
    reshape: int = Field(4, ge=1, description="a structure grows or shrinks by at most this, pixels")
    shapes: int = Field(4, ge=1, description="most holes and blobs a map")
    radius: tuple[float, float] = Field((1.0, 10.0), description="of holes and blobs, pixels")
    swaps: tuple[float, float] = Field((0.1, 0.5), description="share of the pixels near a border")
    swap_reach: int = Field(2, ge=1, description="how near, and how far away the other pixel is, pixels")
    validate_every: int = Field(50, ge=1, description="steps between two validations")
    patience: int = Field(10, ge=1, description="validations without a new best after which it has converged")
    lower_after: int = Field(3, ge=1, description="validations without a new best that lower the rate")
    lower_by: float = Field(0.3, gt=0, le=1, description="factor on the learning rate then")
    longest: float = Field(5.0, gt=0, description="most steps, in those of the training it stands on")

    @model_validator(mode="after")
    def _check(self) -> PostDaeSettings:
        self.check_ranges("radius", "swaps")
        return self


class BigAugSettings(Section):
    """Strong image augmentation (Zhang et al. 2020)."""

    p: float = Field(0.5, ge=0, le=1, description="probability of each of the nine operations")
    sharpen: tuple[float, float] = Field((10.0, 30.0), description="strength of the unsharp mask")
    blur: tuple[float, float] = Field((0.25, 1.5), description="standard deviation, pixels")
    noise: tuple[float, float] = Field((0.01, 0.1), description="standard deviation, of the image's range")
    brightness: float = Field(0.1, ge=0, description="at most added or taken away")
    gamma: tuple[float, float] = Field((0.5, 4.5), description="exponent of the contrast")
    perturbation: float = Field(0.1, ge=0, description="random factor 1 ± this and shift ± this")
    rotation: float = Field(20.0, ge=0, description="degrees")
    scale: tuple[float, float] = Field((0.4, 1.6), description="factor; above 1 enlarges")
    deformation: tuple[float, float] = Field((10.0, 13.0), description="smoothness, pixels")
    deformation_strength: tuple[float, float] = Field(
        (0.0, 1000.0), description="before smoothing in a volume: 1000 moves a pixel by 2 or so"
    )

    @model_validator(mode="after")
    def _check(self) -> BigAugSettings:
        self.check_ranges("sharpen", "blur", "noise", "gamma", "deformation_strength")
        self.check_ranges("scale", "deformation", positive=True)
        return self


class GinSettings(Section):
    """Global intensity non-linear augmentation (Ouyang et al. 2022)."""

    layers: int = Field(4, ge=1, description="convolutions of a random network")
    channels: int = Field(2, ge=1, description="between them")
    dice: float = Field(1.0, ge=0, description="weight of the Dice loss of the copies")
    consistency: float = Field(
        10.0, ge=0, description="weight of the divergence between the copies, a mean over pixels and classes"
    )


class GinIpaSettings(GinSettings):
    """Interventional pseudo-correlation augmentation: two GIN copies blended (Ouyang et al. 2022)."""

    spacing: float = Field(
        0.25, gt=0, le=1, description="of the blending map's control points, of the image's side"
    )


class AfaSettings(Section):
    """Auxiliary Fourier-basis augmentation and MixUp (Vaish et al. 2024, 2025)."""

    strength: float = Field(5.0, gt=0, description="mean strength of a wave; 5 is an amplitude of 0.22")
    alpha: float = Field(0.2, gt=0, description="the mixing share is drawn from Beta(alpha, alpha)")


class SlaugSettings(Section):
    """Location-scale augmentation, fused by saliency (Su et al. 2023)."""

    warmup: float = Field(
        0.1, ge=0, le=1, description="share of the steps before the fused image is trained on too"
    )
    grid: int = Field(18, ge=1, description="cells along a side, on which saliency is averaged")
    dice: float = Field(1.0, ge=0, description="weight of Dice in its passes, at least; see losses.dice")


class HeavySettings(Section):
    """Heavy augmentation (nnU-Net's DA5); probabilities are those for an image of one channel."""

    p_rotation: float = Field(0.2, ge=0, le=1, description="probability")
    rotation: float = Field(180.0, ge=0, description="degrees")
    p_scale: float = Field(0.2, ge=0, le=1, description="probability")
    scale: tuple[float, float] = Field(
        (0.7, 1.43), description="factor from output to input, for each axis; below 1 the heart grows"
    )
    p_mirror: float = Field(0.5, ge=0, le=1, description="probability, for each in-plane axis")
    p_quarter_turn: float = Field(
        0.375, ge=0, le=1, description="probability; with mirroring a transposition too"
    )
    p_elastic: float = Field(0.2, ge=0, le=1, description="probability; DA5 leaves it switched off")
    elastic: tuple[float, float] = Field((9.0, 13.0), description="smoothness, pixels")
    elastic_strength: tuple[float, float] = Field((0.0, 200.0), description="before smoothing")
    p_median: float = Field(0.05, ge=0, le=1, description="probability")
    median: tuple[int, int] = Field((2, 7), description="side of the median filter, pixels")
    p_blur: float = Field(0.05, ge=0, le=1, description="probability")
    blur: tuple[float, float] = Field((0.3, 1.5), description="standard deviation, pixels")
    p_noise: float = Field(0.1, ge=0, le=1, description="probability")
    noise: tuple[float, float] = Field((0.0, 0.1), description="standard deviation, in the slice's own")
    p_brightness: float = Field(0.05, ge=0, le=1, description="probability")
    brightness: float = Field(0.5, ge=0, description="standard deviation of a shift, in the slice's own")
    p_contrast: float = Field(0.1, ge=0, le=1, description="probability")
    contrast: tuple[float, float] = Field((0.5, 2.0), description="factor about the mean of the slice")
    p_low_resolution: float = Field(0.075, ge=0, le=1, description="probability")
    low_resolution: tuple[float, float] = Field((0.25, 1.0), description="share of the pixels of a side kept")
    p_gamma: float = Field(0.1, ge=0, le=1, description="probability")
    p_inverted_gamma: float = Field(0.1, ge=0, le=1, description="probability; gamma of the negative")
    gamma: tuple[float, float] = Field((0.7, 1.5), description="exponent of both")
    p_blank: float = Field(0.2, ge=0, le=1, description="probability of blank windows")
    blanks: int = Field(5, ge=1, description="most windows an image")
    blank: tuple[float, float] = Field((0.1, 1 / 3), description="of a window, of the image's side")
    p_shade: float = Field(0.15, ge=0, le=1, description="probability of a brightness gradient")
    shade: tuple[float, float] = Field(
        (1.0, 5.0), description="its height or depth, in the slice's deviation"
    )
    p_local_gamma: float = Field(0.15, ge=0, le=1, description="probability")
    local_gamma_below: tuple[float, float] = Field((0.01, 0.8), description="exponent in its middle, or")
    local_gamma_above: tuple[float, float] = Field((1.5, 4.0), description="exponent in its middle")
    p_sharpen: float = Field(0.1, ge=0, le=1, description="probability")
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


class RivalSettings(Section):
    """Which rivals add their terms to a step, and the settings of each."""

    use: tuple[str, ...] = Field((), description="names, or module:class of one's own; set by --method")
    rand_mwm: RandMwmSettings = RandMwmSettings()
    randconv: RandConvSettings = RandConvSettings()
    randconv_successor: RandConvSuccessorSettings = RandConvSuccessorSettings()
    adv_noise: AdvNoiseSettings = AdvNoiseSettings()
    adv_bias: AdvBiasSettings = AdvBiasSettings()
    rsc: RscSettings = RscSettings()
    mixstyle: MixStyleSettings = MixStyleSettings()
    dsu: DsuSettings = DsuSettings()
    maxstyle: MaxStyleSettings = MaxStyleSettings()
    post_dae: PostDaeSettings = PostDaeSettings()
    bigaug: BigAugSettings = BigAugSettings()
    gin: GinSettings = GinSettings()
    gin_ipa: GinIpaSettings = GinIpaSettings()
    afa_mixup: AfaSettings = AfaSettings()
    slaug: SlaugSettings = SlaugSettings()
    heavy: HeavySettings = HeavySettings()

    def of(self, name: str) -> BaseModel:
        """The settings of a rival of this package, by the name that --method takes."""
        return getattr(self, name.replace("-", "_"))
