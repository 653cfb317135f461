"""The doctor: reports each symptom of a training that goes wrong once, with its remedy."""

from keras_vae.callbacks.health.finding import Finding, HealthWarning
from keras_vae.callbacks.health.health_check import HealthCheck

__all__ = ["Finding", "HealthCheck", "HealthWarning"]
