"""Evaluation of trained models."""

from keras_vae.evaluation.active_units import ActiveUnits, active_units
from keras_vae.evaluation.log_likelihood import LogLikelihood, log_likelihood

__all__ = ["ActiveUnits", "LogLikelihood", "active_units", "log_likelihood"]
