"""Evaluation of trained models."""

from keras_vae.evaluation.active_units import ActiveUnits, active_units
from keras_vae.evaluation.fit_posterior import FittedPosterior, fit_posterior
from keras_vae.evaluation.kl_decomposition import KLDecomposition, kl_decomposition
from keras_vae.evaluation.log_likelihood import LogLikelihood, log_likelihood
from keras_vae.evaluation.marginal_kl import marginal_kl
from keras_vae.evaluation.mean_kl import mean_kl
from keras_vae.evaluation.mutual_information import mutual_information

__all__ = [
    "ActiveUnits",
    "FittedPosterior",
    "KLDecomposition",
    "LogLikelihood",
    "active_units",
    "fit_posterior",
    "kl_decomposition",
    "log_likelihood",
    "marginal_kl",
    "mean_kl",
    "mutual_information",
]
