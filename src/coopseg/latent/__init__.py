"""Latent space data augmentation for any network (Chen et al. 2021): draw a mask, build it, apply it."""

from coopseg.latent.choice import SCHEMES, MaskChoice, sample_choice
from coopseg.latent.features import MaskedFeatures
from coopseg.latent.image_examples import ImageExamples
from coopseg.latent.masks import LatentMasks, apply_mask, build_mask, rise_by_scheme, scores
from coopseg.networks.norm import frozen_norms

__all__ = [
    "SCHEMES", "ImageExamples", "LatentMasks", "MaskChoice", "MaskedFeatures", "apply_mask", "build_mask",
    "frozen_norms", "rise_by_scheme", "sample_choice", "scores",
]  # fmt: skip
