"""Heads for p(z): a `tfd.Distribution` over z, fixed, learned or conditional."""

from keras_vae.priors.autoregressive_flow import AutoregressiveFlow
from keras_vae.priors.base import Prior
from keras_vae.priors.bernoulli import Bernoulli
from keras_vae.priors.categorical import Categorical
from keras_vae.priors.chain import Chain
from keras_vae.priors.code_prior import CodePrior
from keras_vae.priors.conditional_normal import ConditionalNormal
from keras_vae.priors.hierarchy import Hierarchy
from keras_vae.priors.mixture_of_normals import MixtureOfNormals
from keras_vae.priors.pixel_cnn import PixelCNN, PixelSNAIL
from keras_vae.priors.standard_normal import StandardNormal
from keras_vae.priors.two_stage import TwoStage
from keras_vae.priors.uniform_codes import UniformCodes
from keras_vae.priors.vamp_prior import VampPrior

__all__ = [
    "AutoregressiveFlow",
    "Bernoulli",
    "Categorical",
    "Chain",
    "CodePrior",
    "ConditionalNormal",
    "Hierarchy",
    "MixtureOfNormals",
    "PixelCNN",
    "PixelSNAIL",
    "Prior",
    "StandardNormal",
    "TwoStage",
    "UniformCodes",
    "VampPrior",
]
