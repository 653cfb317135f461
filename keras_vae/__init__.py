"""Variational autoencoders in Keras, trained with `model.fit`."""

from keras_vae import (
    bounds,
    callbacks,
    controllers,
    data,
    evaluation,
    likelihoods,
    networks,
    objectives,
    optimizers,
    penalties,
    plotting,
    posteriors,
    priors,
    schedules,
)
from keras_vae.core.version import __version__
from keras_vae.export import export_saved_model
from keras_vae.learning_rate_range import LearningRateRange, find_learning_rate
from keras_vae.models import (
    GECOVAE,
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    ConditionalVAE,
    HierarchicalVAE,
    LadderVAE,
    LatentVariableModel,
    PriorModel,
)
from keras_vae.terms import Terms

__all__ = [
    "BetaVAE",
    "ConditionalVAE",
    "GECOVAE",
    "HierarchicalVAE",
    "IWAE",
    "LadderVAE",
    "LatentVariableModel",
    "LearningRateRange",
    "PriorModel",
    "Terms",
    "VAE",
    "VQVAE",
    "__version__",
    "bounds",
    "callbacks",
    "controllers",
    "data",
    "evaluation",
    "export_saved_model",
    "find_learning_rate",
    "likelihoods",
    "networks",
    "objectives",
    "optimizers",
    "penalties",
    "plotting",
    "posteriors",
    "priors",
    "schedules",
]
