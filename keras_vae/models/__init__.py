"""Models: Keras models that are trained by an objective made of log-densities."""

from keras_vae.models.base import LatentVariableModel
from keras_vae.models.conditional import ConditionalVAE
from keras_vae.models.hierarchical import HierarchicalVAE
from keras_vae.models.ladder import LadderVAE
from keras_vae.models.presets import GECOVAE, IWAE, VAEGAN, BetaVAE
from keras_vae.models.prior_model import PriorModel
from keras_vae.models.vae import VAE
from keras_vae.models.vqvae import VQVAE

__all__ = [
    "VAE",
    "VAEGAN",
    "VQVAE",
    "BetaVAE",
    "ConditionalVAE",
    "GECOVAE",
    "HierarchicalVAE",
    "IWAE",
    "LadderVAE",
    "LatentVariableModel",
    "PriorModel",
]
