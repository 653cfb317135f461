"""Encoders (x -> features) and decoders (z -> parameters of p(x|z))."""

from keras_vae.networks.conv import ConvDecoder, ConvEncoder
from keras_vae.networks.ladder import LadderEncoder
from keras_vae.networks.maps import MapDecoder, MapEncoder
from keras_vae.networks.mlp import MLPDecoder, MLPEncoder
from keras_vae.networks.output_bias import OutputBias
from keras_vae.networks.residual import ResidualDecoder, ResidualEncoder
from keras_vae.networks.residual_block import ResidualBlock

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "LadderEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "MapDecoder",
    "MapEncoder",
    "OutputBias",
    "ResidualBlock",
    "ResidualDecoder",
    "ResidualEncoder",
]
