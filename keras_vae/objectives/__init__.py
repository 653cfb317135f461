"""Objectives: serializable objects around the bounds."""

from keras_vae.objectives.base import Objective
from keras_vae.objectives.constraints import (
    Constraint,
    Distance,
    FeatureMatch,
    NegativeLogLikelihood,
    SquaredError,
)
from keras_vae.objectives.elbo import ELBO
from keras_vae.objectives.geco import GECO
from keras_vae.objectives.importance_weighted import ImportanceWeighted

__all__ = [
    "Constraint",
    "Distance",
    "ELBO",
    "FeatureMatch",
    "GECO",
    "ImportanceWeighted",
    "NegativeLogLikelihood",
    "Objective",
    "SquaredError",
]
