"""Optimizers that Keras does not have, and one that holds an optimizer for each part."""

from keras_vae.optimizers.by_part import by_part
from keras_vae.optimizers.part_optimizer import PartOptimizer
from keras_vae.optimizers.radam import RAdam

__all__ = ["PartOptimizer", "RAdam", "by_part"]
