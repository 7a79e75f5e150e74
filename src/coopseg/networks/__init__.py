"""The five networks of Chen et al. 2021, what a step needs of networks, and the norm with open choices."""

from coopseg.networks.any_dimension import Refiner
from coopseg.networks.coders import Decoder, Decoupler, Encoder
from coopseg.networks.cooperative import ImageEncoder, Networks, StepNetworks
from coopseg.networks.norm import Norm

__all__ = ["Decoder", "Decoupler", "Encoder", "ImageEncoder", "Networks", "Norm", "Refiner", "StepNetworks"]
