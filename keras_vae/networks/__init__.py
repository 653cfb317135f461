"""Encoders, decoders, the passes of hierarchical models, and discriminators."""

from keras_vae.networks.bottleneck_cell import BottleneckCell
from keras_vae.networks.bottom_up import BottomUp
from keras_vae.networks.conv import ConvDecoder, ConvEncoder
from keras_vae.networks.discriminators import ConvDiscriminator, PatchDiscriminator
from keras_vae.networks.ladder import LadderEncoder
from keras_vae.networks.maps import MapDecoder, MapEncoder
from keras_vae.networks.mlp import MLPDecoder, MLPEncoder
from keras_vae.networks.output_bias import OutputBias
from keras_vae.networks.residual import ResidualDecoder, ResidualEncoder
from keras_vae.networks.residual_block import ResidualBlock
from keras_vae.networks.spectral import SpectralNormalization, SpectralRegularizer
from keras_vae.networks.top_down import TopDown

__all__ = [
    "BottleneckCell",
    "BottomUp",
    "ConvDecoder",
    "ConvDiscriminator",
    "ConvEncoder",
    "LadderEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "MapDecoder",
    "MapEncoder",
    "OutputBias",
    "PatchDiscriminator",
    "ResidualBlock",
    "ResidualDecoder",
    "ResidualEncoder",
    "SpectralNormalization",
    "SpectralRegularizer",
    "TopDown",
]
