"""The doctor: symptoms of trainings that go wrong, each told once, with the remedy."""

from keras_vae.callbacks.health.finding import Finding, HealthWarning
from keras_vae.callbacks.health.health_check import HealthCheck

__all__ = ["Finding", "HealthCheck", "HealthWarning"]
