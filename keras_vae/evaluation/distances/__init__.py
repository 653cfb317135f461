"""Distances between real and generated data, and the features to take them of."""

from keras_vae.evaluation.distances.classifier import classifier_features
from keras_vae.evaluation.distances.frechet import (
    FrechetDistance,
    frechet_between_moments,
    frechet_distance,
)
from keras_vae.evaluation.distances.inception import inception_features
from keras_vae.evaluation.distances.kernel import KernelDistance, kernel_distance
from keras_vae.evaluation.distances.manifold import ManifoldScores, manifold_scores
from keras_vae.evaluation.distances.moments import Moments, feature_moments

__all__ = [
    "FrechetDistance",
    "KernelDistance",
    "ManifoldScores",
    "Moments",
    "classifier_features",
    "feature_moments",
    "frechet_between_moments",
    "frechet_distance",
    "inception_features",
    "kernel_distance",
    "manifold_scores",
]
