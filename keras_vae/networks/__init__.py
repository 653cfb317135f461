"""Encoders (x -> features) and decoders (z -> parameters of p(x|z))."""

from keras_vae.networks.conv import ConvDecoder, ConvEncoder
from keras_vae.networks.mlp import MLPDecoder, MLPEncoder
from keras_vae.networks.output_bias import OutputBias

__all__ = ["ConvDecoder", "ConvEncoder", "MLPDecoder", "MLPEncoder", "OutputBias"]
