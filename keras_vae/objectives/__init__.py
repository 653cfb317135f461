"""Objectives: serializable objects around the bounds."""

from keras_vae.objectives.adversarial import Adversarial
from keras_vae.objectives.base import Objective
from keras_vae.objectives.beta_tc import BetaTC
from keras_vae.objectives.capacity import Capacity
from keras_vae.objectives.constraints import (
    Constraint,
    Distance,
    FeatureMatch,
    NegativeLogLikelihood,
    SquaredError,
)
from keras_vae.objectives.dip import DIP
from keras_vae.objectives.elbo import ELBO
from keras_vae.objectives.exact_marginal import ExactMarginal
from keras_vae.objectives.geco import GECO
from keras_vae.objectives.importance_weighted import ImportanceWeighted
from keras_vae.objectives.info_vae import InfoVAE
from keras_vae.objectives.latent_adversaries import AdversarialPosterior, FactorVAE
from keras_vae.objectives.learned_similarity import LearnedSimilarity
from keras_vae.objectives.target_kl import TargetKL

__all__ = [
    "Adversarial",
    "AdversarialPosterior",
    "BetaTC",
    "Capacity",
    "Constraint",
    "DIP",
    "Distance",
    "ELBO",
    "ExactMarginal",
    "FactorVAE",
    "FeatureMatch",
    "GECO",
    "ImportanceWeighted",
    "InfoVAE",
    "LearnedSimilarity",
    "NegativeLogLikelihood",
    "Objective",
    "SquaredError",
    "TargetKL",
]
