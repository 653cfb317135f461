"""Optimizers that Keras does not have, and one for each part of a model."""

from keras_vae.optimizers.radam import RAdam

__all__ = ["RAdam"]
