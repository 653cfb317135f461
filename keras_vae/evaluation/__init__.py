"""Evaluation of trained models."""

from keras_vae.evaluation.active_units import ActiveUnits, active_units
from keras_vae.evaluation.fit_posterior import FittedPosterior, fit_posterior
from keras_vae.evaluation.log_likelihood import LogLikelihood, log_likelihood

__all__ = [
    "ActiveUnits",
    "FittedPosterior",
    "LogLikelihood",
    "active_units",
    "fit_posterior",
    "log_likelihood",
]
