"""Distances between real and generated data, and the features to measure them on."""

from keras_vae.evaluation.distances.classifier import classifier_features
from keras_vae.evaluation.distances.frechet import (
    FrechetDistance,
    frechet_between_moments,
    frechet_distance,
)
from keras_vae.evaluation.distances.frechet_extrapolation import (
    FrechetExtrapolation,
    frechet_at_infinity,
)
from keras_vae.evaluation.distances.inception import inception_features
from keras_vae.evaluation.distances.kernel import KernelDistance, kernel_distance
from keras_vae.evaluation.distances.manifold import ManifoldScores, manifold_scores
from keras_vae.evaluation.distances.moments import Moments, feature_moments

__all__ = [
    "FrechetDistance",
    "FrechetExtrapolation",
    "KernelDistance",
    "ManifoldScores",
    "Moments",
    "classifier_features",
    "feature_moments",
    "frechet_at_infinity",
    "frechet_between_moments",
    "frechet_distance",
    "inception_features",
    "kernel_distance",
    "manifold_scores",
]
