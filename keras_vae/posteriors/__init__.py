"""Heads for q(z|x), from features of the encoder to a `tfd.Distribution` over z."""

from keras_vae.posteriors.autoregressive_flow import AutoregressiveFlow
from keras_vae.posteriors.base import Posterior
from keras_vae.posteriors.bernoulli import Bernoulli
from keras_vae.posteriors.categorical import Categorical
from keras_vae.posteriors.chain import Chain
from keras_vae.posteriors.diagonal_normal import DiagonalNormal
from keras_vae.posteriors.fsq import FSQ
from keras_vae.posteriors.full_covariance_normal import FullCovarianceNormal
from keras_vae.posteriors.ladder import Ladder
from keras_vae.posteriors.quantizer import Quantizer
from keras_vae.posteriors.quantizer_hierarchy import QuantizerHierarchy
from keras_vae.posteriors.residual_quantizer import ResidualQuantizer
from keras_vae.posteriors.stochastic_quantizer import StochasticQuantizer
from keras_vae.posteriors.vector_quantizer import VectorQuantizer

__all__ = [
    "AutoregressiveFlow",
    "Bernoulli",
    "Categorical",
    "Chain",
    "DiagonalNormal",
    "FSQ",
    "FullCovarianceNormal",
    "Ladder",
    "Posterior",
    "Quantizer",
    "QuantizerHierarchy",
    "ResidualQuantizer",
    "StochasticQuantizer",
    "VectorQuantizer",
]
